//! A task's templates: written before it starts, and again when what they show has changed, which
//! the task may have to be told.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::{sys::signal::Signal, unistd::Pid};
use sandlot_api::robot::{ChangeMode, Driver, TaskDefinition, Template};
use sandlot_supervisor::Run;
use sha2::{Digest, Sha256};

use super::{Life, Over};
use crate::{
    artifacts,
    template::{self, Known},
};

/// What a task whose templates have changed must be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// It starts anew.
    restart: bool,
    /// It gets these signals.
    signals: BTreeSet<i32>,
}

impl Change {
    fn add(&mut self, template: &Template) -> Result<(), String> {
        match template.change_mode.unwrap_or_default() {
            ChangeMode::Restart => self.restart = true,
            ChangeMode::Noop => {}
            ChangeMode::Signal => {
                self.signals.insert(signal_of(template)? as i32);
            }
        }
        Ok(())
    }
}

/// A file as a template has it now.
struct Written<'a> {
    template: &'a Template,
    text: String,
    mode: u32,
}

impl Written<'_> {
    /// A word that is the same for the same text.
    fn digest(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn write(&self, folder: &Path) -> Result<(), String> {
        let path = &self.template.dest_path;
        artifacts::write_within(folder, path, self.text.as_bytes(), self.mode)
            .map_err(|error| wrong(self.template, &error))
    }
}

impl Life<'_> {
    /// Writes the files of all templates; what they came to, for the attempt's own to be compared
    /// with later.
    pub(super) fn write_templates(
        &self,
        definition: &TaskDefinition,
        folder: &Path,
    ) -> Result<Vec<String>, String> {
        let files = self.render(definition, folder)?;
        for file in &files {
            // One that could not be told later is better not started.
            Change::default().add(file.template)?;
            file.write(folder)?;
        }
        Ok(files.iter().map(Written::digest).collect())
    }

    /// Writes those of the attempt's files that have changed; what the task must be told of that.
    pub(super) fn renew_templates(&mut self) -> Option<Change> {
        self.task.definition.templates.as_ref()?;
        match self.changed_templates() {
            Ok(change) => change,
            Err(why) => {
                tracing::warn!(task = self.task.name, %why, "a template cannot be written anew; the file stays as it was");
                None
            }
        }
    }

    fn changed_templates(&mut self) -> Result<Option<Change>, String> {
        let files = self.render(&self.task.definition, &self.folder)?;
        let mut change = None;
        for (index, file) in files.iter().enumerate() {
            let digest = file.digest();
            let Some(known) = self.entry.rendered.get_mut(index) else {
                continue;
            };
            if *known != digest {
                file.write(&self.folder)?;
                *known = digest;
                change
                    .get_or_insert_with(Change::default)
                    .add(file.template)?;
            }
        }
        Ok(change)
    }

    fn render<'a>(
        &self,
        definition: &'a TaskDefinition,
        folder: &Path,
    ) -> Result<Vec<Written<'a>>, String> {
        let mut env = self.facts();
        env.extend(definition.env.clone().unwrap_or_default());
        let labels = self.shop.labels.borrow().clone();
        let notes = self.notes.borrow().clone();
        let known = Known {
            env: &env,
            meta: &notes,
            labels: &labels,
            robot: &self.shop.robot,
        };
        let templates = definition.templates.iter().flatten();
        let files = templates.map(|template| {
            let text = match (&template.embedded_tmpl, &template.source_path) {
                (Some(text), _) => text.clone(),
                (None, Some(source)) => artifacts::read_within(folder, source, template::LONGEST)
                    .map_err(|error| wrong(template, &error))?,
                (None, None) => {
                    let why = "it has neither embeddedTmpl nor sourcePath";
                    return Err(wrong(template, &why));
                }
            };
            let text = template::render(&text, template, &known);
            let mode = template.perms.as_deref().unwrap_or("0644");
            let parsed = u32::from_str_radix(mode, 8);
            Ok(Written {
                template,
                text: text.map_err(|error| wrong(template, &error))?,
                mode: parsed.map_err(|_| wrong(template, &format!("{mode:?} is no file mode")))?
                    & 0o777,
            })
        });
        files.collect()
    }

    /// Tells a running task of a change. Whether it was ended, to be started anew.
    pub(super) async fn tell_change(&mut self, run: &Run, change: &Change) -> Result<bool, Over> {
        if change.restart {
            run.stop();
            if let Some(outcome) = run.ended().await {
                self.clear_away(&outcome).await;
            }
            return Ok(true);
        }
        if let Some(main) = run.started().await {
            for number in &change.signals {
                signal(main, self.task.definition.driver, *number);
            }
        }
        self.note().await?;
        Ok(false)
    }
}

/// Sends a signal to the task's own program.
fn signal(main: i32, driver: Driver, number: i32) {
    let program = match driver {
        // The processes beside the cell and in it, whose child is the task.
        Driver::Exec => child_of(main).and_then(child_of),
        _ => Some(main),
    };
    let signal = Signal::try_from(number).ok();
    if let Some((program, signal)) = program.zip(signal) {
        // One that has ended needs no signal.
        let _ = nix::sys::signal::kill(Pid::from_raw(program), signal);
    }
}

/// The first child of a process.
fn child_of(pid: i32) -> Option<i32> {
    let file = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    let children = std::fs::read_to_string(file).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn signal_of(template: &Template) -> Result<Signal, String> {
    let Some(name) = template.change_signal.as_deref() else {
        return Err(wrong(
            template,
            &"its changeMode is signal, and it has no changeSignal",
        ));
    };
    let full = match name.starts_with("SIG") {
        true => name.to_owned(),
        false => format!("SIG{name}"),
    };
    Signal::from_str(&full).map_err(|_| wrong(template, &format!("{name:?} is no signal")))
}

fn wrong(template: &Template, why: &dyn std::fmt::Display) -> String {
    format!("template {}: {why}", template.dest_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(mode: ChangeMode, signal: Option<&str>) -> Template {
        Template {
            change_mode: Some(mode),
            change_signal: signal.map(str::to_owned),
            ..Template::default()
        }
    }

    #[test]
    fn several_changes_are_told_together() {
        let mut change = Change::default();
        change.add(&template(ChangeMode::Noop, None)).unwrap();
        assert_eq!(change, Change::default());
        for name in ["SIGHUP", "HUP", "USR1"] {
            change
                .add(&template(ChangeMode::Signal, Some(name)))
                .unwrap();
        }
        assert_eq!(
            change.signals,
            BTreeSet::from([libc::SIGHUP, libc::SIGUSR1])
        );
        assert!(!change.restart);
        change.add(&Template::default()).unwrap();
        assert!(change.restart, "without a word a task starts anew");
    }

    #[test]
    fn a_signal_that_is_none_is_said() {
        for name in [None, Some("SIGNAL"), Some("")] {
            let wrong = Change::default().add(&template(ChangeMode::Signal, name));
            assert!(wrong.is_err(), "{name:?}");
        }
    }
}
