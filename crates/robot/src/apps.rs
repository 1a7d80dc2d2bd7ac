//! Programs that are installed on the robot: each version in a folder of its own, the present one
//! behind a link that is switched at once, and back when it does not work.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sandlot_api::robot::{
    DeploymentState, ExecConfig,
    wire::{DeploymentReport, DesiredDeployment, News},
};
use sandlot_supervisor::{Key, Launch, Memory, Stream};

use crate::{
    busy::Busy,
    files,
    task::{Workshop, tail},
};

/// How long a health check may take when nothing says so.
const HEALTH: Duration = Duration::from_secs(60);
/// How often a robot is asked whether it still is busy.
const ASK: Duration = Duration::from_secs(1);
/// The link to the present version.
const CURRENT: &str = "current";

/// Installs a version, unless that was done or tried before.
pub(crate) async fn install(shop: Arc<Workshop>, busy: Busy, wanted: DesiredDeployment) {
    let app = App {
        home: shop.folder.join("apps").join(&wanted.name),
        shop: &shop,
        wanted: &wanted,
    };
    if !is_plain(&wanted.name) || !is_plain(&wanted.version) {
        return app
            .say(
                DeploymentState::Failed,
                Some("its name or version is no folder's name".to_owned()),
            )
            .await;
    }
    let known: Option<DeploymentReport> = files::read_json(&app.note()).unwrap_or_default();
    let same = |known: &DeploymentReport| {
        (&known.uid, known.generation, &known.version)
            == (&wanted.uid, wanted.generation, &wanted.version)
    };
    if let Some(known) = known.filter(same) {
        return shop.tell(News::Deployment(known)).await;
    }
    let (state, why) = match app.switch(&busy).await {
        Ok(()) => (DeploymentState::Healthy, None),
        Err((state, why)) => (state, Some(why)),
    };
    let report = app.report(state, why);
    if let Err(error) = files::keep_json(&app.note(), &report).await {
        tracing::error!(app = wanted.name, %error, "what came of an installation cannot be kept");
    }
    shop.tell(News::Deployment(report)).await;
}

struct App<'a> {
    home: PathBuf,
    shop: &'a Arc<Workshop>,
    wanted: &'a DesiredDeployment,
}

type Failed = (DeploymentState, String);

impl App<'_> {
    fn note(&self) -> PathBuf {
        self.home.join("state.json")
    }

    /// The folder of the wanted version: every generation has its own, so that nothing is
    /// changed under a program that runs.
    fn folder(&self) -> PathBuf {
        self.home.join(format!(
            "{}-{}",
            self.wanted.version, self.wanted.generation
        ))
    }

    async fn switch(&self, busy: &Busy) -> Result<(), Failed> {
        let failed = |why: io::Error| (DeploymentState::Failed, why.to_string());
        self.say(DeploymentState::Downloading, None).await;
        self.fetch()
            .await
            .map_err(|why| (DeploymentState::Failed, why))?;
        let mut told = false;
        while let Some(reason) = busy.reason() {
            if !std::mem::replace(&mut told, true) {
                self.say(
                    DeploymentState::Waiting,
                    Some(format!("the robot is busy: {reason}")),
                )
                .await;
            }
            tokio::time::sleep(ASK).await;
        }
        let before = fs::read_link(self.home.join(CURRENT)).ok();
        let folder = self.folder();
        let version = PathBuf::from(folder.file_name().unwrap_or_default());
        self.point_at(version).await.map_err(failed)?;
        self.say(DeploymentState::Verifying, None).await;
        let Err(why) = self.check(&folder).await else {
            self.clear_away(before.as_deref());
            return Ok(());
        };
        match before {
            None => {
                fs::remove_file(self.home.join(CURRENT)).map_err(failed)?;
                Err((
                    DeploymentState::Failed,
                    format!("{why}; there is no version to go back to"),
                ))
            }
            Some(before) => {
                self.point_at(before.clone()).await.map_err(failed)?;
                // The old version ran before; what it says now is for people to look at.
                let again = self
                    .run(
                        "activate",
                        self.wanted.activate.as_ref(),
                        &self.home.join(&before),
                    )
                    .await;
                let again = again
                    .err()
                    .map_or_else(String::new, |why| format!("; going back failed too: {why}"));
                Err((
                    DeploymentState::RolledBack,
                    format!("{why}; {} runs again{again}", before.display()),
                ))
            }
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let folder = self.folder();
        let whole = folder.join(".whole");
        if whole.exists() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for artifact in &self.wanted.artifacts {
            let fetched = self.shop.fetcher.fetch(artifact, &folder).await;
            fetched.map_err(|error| format!("{}: {error}", artifact.getter_source))?;
        }
        let noted = files::aside(move || files::replace(&whole, b"")).await;
        noted.map_err(|error| error.to_string())
    }

    /// Switches at once: whoever looks finds the old version or the new one.
    async fn point_at(&self, version: PathBuf) -> io::Result<()> {
        let (fresh, current) = (self.home.join(".current.new"), self.home.join(CURRENT));
        files::aside(move || {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(version, &fresh)?;
            fs::rename(&fresh, &current)?;
            files::sync_folder(&current)
        })
        .await
    }

    async fn check(&self, folder: &Path) -> Result<(), String> {
        self.run("activate", self.wanted.activate.as_ref(), folder)
            .await?;
        self.run("health check", self.wanted.health_check.as_ref(), folder)
            .await
    }

    async fn run(
        &self,
        what: &str,
        program: Option<&ExecConfig>,
        folder: &Path,
    ) -> Result<(), String> {
        let Some(program) = program else {
            return Ok(());
        };
        let limit = self.wanted.health_deadline.map_or(HEALTH, |limit| limit.0);
        let args = program.args.iter().flatten();
        let mut launch = Launch::new(std::iter::once(&program.command).chain(args));
        launch.cwd = Some(folder.to_owned());
        launch.timeout = Some(limit);
        launch.memory = Memory::Passing;
        launch.env = vec![
            ("PATH".into(), sandlot_supervisor::DEFAULT_PATH.into()),
            ("ROBOT_ID".into(), (&self.shop.robot).into()),
            ("APP_DIR".into(), folder.into()),
            ("APP_VERSION".into(), (&self.wanted.version).into()),
        ];
        let key = Key::new(format!("app/{:032x}", rand::random::<u128>()))
            .map_err(|error| error.to_string())?;
        let run = self.shop.supervisor.start(key, launch).await;
        let run = run.map_err(|error| format!("its {what} could not be started: {error}"))?;
        let outcome = run.ended().await.ok_or("the agent was stopped")?;
        match outcome.end.is_success() {
            true => Ok(()),
            false => {
                let printed = tail(&run, Stream::Stderr).await;
                Err(format!("its {what} {}: {}", outcome.reason, printed.trim()))
            }
        }
    }

    /// Removes what neither runs nor ran before.
    fn clear_away(&self, before: Option<&Path>) {
        let keep = [
            self.folder().file_name().map(Into::into),
            before.map(Path::to_owned),
        ];
        let entries = fs::read_dir(&self.home).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = PathBuf::from(entry.file_name());
            if !keep.iter().flatten().any(|kept| *kept == name) {
                // What stays costs disk and nothing else; the next installation tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    async fn say(&self, state: DeploymentState, why: Option<String>) {
        self.shop
            .tell(News::Deployment(self.report(state, why)))
            .await;
    }

    fn report(&self, state: DeploymentState, why: Option<String>) -> DeploymentReport {
        let current = fs::read_link(self.home.join(CURRENT)).ok();
        let active = current.and_then(|folder| {
            let name = folder.to_string_lossy().into_owned();
            name.rsplit_once('-').map(|(version, _)| version.to_owned())
        });
        DeploymentReport {
            uid: self.wanted.uid.clone(),
            name: self.wanted.name.clone(),
            generation: self.wanted.generation,
            version: self.wanted.version.clone(),
            state,
            active_version: active,
            message: why,
        }
    }
}

/// Whether a text can be a folder's name.
fn is_plain(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.bytes().all(plain)
}
