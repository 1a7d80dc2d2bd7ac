//! What an attempt finds when it begins: artifacts and templates in its folder, and what its
//! group's init tasks have done.

use std::{fs, path::Path};

use sandlot_api::robot::{TaskDefinition, TaskState, wire::InitReport};
use sandlot_supervisor::{Key, Stream};

use super::{Life, Over, ending::tail, give, run_key};

impl Life<'_> {
    /// Fetches and writes what the task finds in its folder.
    pub(super) async fn prepare(&mut self) -> Result<(), Over> {
        let definition = &self.task.definition;
        let has_artifacts = definition.artifacts.iter().flatten().next().is_some();
        let has_templates = definition.templates.iter().flatten().next().is_some();
        if self.entry.prepared {
            return Ok(());
        }
        if has_artifacts {
            self.say(TaskState::Downloading, "Downloading", None).await;
        }
        self.entry.rendered = self.fill(definition, &self.folder).await?;
        if has_artifacts || has_templates {
            self.entry.prepared = true;
            self.note().await?;
        }
        if has_artifacts {
            self.say(TaskState::Starting, "Downloaded", None).await;
        }
        Ok(())
    }

    /// Runs what comes before the group's tasks, in order, once.
    pub(super) async fn begin_group(&mut self) -> Result<(), Over> {
        if self.task.init_tasks.is_empty() {
            return Ok(());
        }
        let begun = self.group.begun.get_or_init(|| async {
            for init in &self.task.init_tasks {
                self.init(init).await?;
            }
            Ok(())
        });
        let begun = begun.await.clone();
        let state = if begun.is_ok() {
            TaskState::Completed
        } else {
            TaskState::Failed
        };
        let reports = self.task.init_tasks.iter().map(|init| InitReport {
            name: init.name.clone(),
            state,
            exit_code: None,
        });
        self.entry.report.init_tasks = reports.collect();
        begun.map_err(|why| Over::Failed("InitTaskFailed", why))
    }

    /// What a task before the group's own is started with.
    pub(super) fn init_key(&self, init: &TaskDefinition) -> Result<Key, Over> {
        run_key(&format!("{}/{}", self.group.name, init.name))
    }

    pub(super) async fn init(&self, init: &TaskDefinition) -> Result<(), String> {
        let failed = |why: String| format!("init task {} failed: {why}", init.name);
        let said = |over: Over| {
            failed(match over {
                Over::Stopped => "it was stopped".to_owned(),
                Over::Rejected(_, why) | Over::Failed(_, why) => why,
                Over::Broken(error) => error.to_string(),
            })
        };
        let folder = self.group.folder.join(safe_name(&init.name));
        let done = folder.with_extension("prepared");
        if !done.exists() {
            self.fill(init, &folder).await.map_err(said)?;
            fs::write(&done, "").map_err(|error| failed(error.to_string()))?;
        }
        let name = format!("k8s4r-{}-{}", self.group.name, safe_name(&init.name));
        let launch = self.launch(init, &folder, &name).map_err(said)?;
        give(init, &launch, &folder).map_err(failed)?;
        let key = self.init_key(init).map_err(said)?;
        let run = self.shop.supervisor.start(key, launch).await;
        let run = run.map_err(|error| failed(error.to_string()))?;
        // Whether it ends or not, it goes when the group's last task does.
        self.group.keep(run.clone());
        if init.daemon == Some(true) {
            return Ok(());
        }
        match run.ended().await {
            Some(outcome) if outcome.end.is_success() => Ok(()),
            Some(outcome) => {
                let printed = tail(&run, Stream::Stderr).await;
                Err(failed(format!("{}: {}", outcome.reason, printed.trim())))
            }
            None => Err(failed("the agent stopped".to_owned())),
        }
    }

    /// Makes a folder and puts artifacts and templates into it; what the templates came to.
    pub(super) async fn fill(
        &self,
        definition: &TaskDefinition,
        folder: &Path,
    ) -> Result<Vec<String>, Over> {
        fs::create_dir_all(folder)?;
        fs::create_dir_all(&self.group.folder)?;
        for artifact in definition.artifacts.iter().flatten() {
            let fetched = self.shop.fetcher.fetch(artifact, folder).await;
            fetched.map_err(|error| {
                Over::Failed(
                    "DownloadFailed",
                    format!("{}: {error}", artifact.getter_source),
                )
            })?;
        }
        self.write_templates(definition, folder)
            .map_err(|why| Over::Failed("TemplateFailed", why))
    }
}

/// A name as a folder.
fn safe_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    name.chars().take(63).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_folders_that_lead_nowhere_else() {
        assert_eq!(safe_name("../../etc"), "______etc");
        assert_eq!(safe_name("warm-up 1"), "warm-up_1");
    }
}
