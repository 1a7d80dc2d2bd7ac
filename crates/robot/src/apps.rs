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
use tokio_util::sync::CancellationToken;

use crate::{
    busy::Busy,
    files,
    metrics::Metrics,
    task::{Workshop, tail},
};

/// How long a health check may take when nothing says so.
const HEALTH: Duration = Duration::from_secs(60);
/// How often a robot is asked whether it still is busy.
const ASK: Duration = Duration::from_secs(1);
/// The link to the present version.
const CURRENT: &str = "current";
/// The link to the version before.
const PREVIOUS: &str = "previous";

/// What an installation looks at on its way.
pub(crate) struct Signs {
    /// Whether the robot wants to be left alone.
    pub(crate) busy: Busy,
    /// Says that another version is wanted by now, or none.
    pub(crate) unwanted: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
}

/// Installs a version, unless that was done or tried before. Says whether it came to an end: it
/// gives up when it is not wanted any more before the switch.
pub(crate) async fn install(shop: Arc<Workshop>, signs: Signs, wanted: DesiredDeployment) -> bool {
    let app = App {
        home: shop.folder.join("apps").join(&wanted.name),
        shop: &shop,
        wanted: &wanted,
    };
    if !is_plain(&wanted.name) || !is_plain(&wanted.version) {
        let why = "its name or version is no folder's name".to_owned();
        app.say(DeploymentState::Failed, Some(why)).await;
        return true;
    }
    let known: Option<DeploymentReport> = files::read_json(&app.note()).unwrap_or_default();
    let same = |known: &DeploymentReport| {
        (&known.uid, known.generation, &known.version)
            == (&wanted.uid, wanted.generation, &wanted.version)
    };
    if let Some(known) = known.filter(same) {
        shop.tell(News::Deployment(known)).await;
        return true;
    }
    let (state, why) = match app.switch(&signs).await {
        Ok(()) => (DeploymentState::Healthy, None),
        Err(Over::Unwanted) => return false,
        Err(Over::Failed(state, why)) => (state, Some(why)),
    };
    let report = app.report(state, why);
    if let Err(error) = files::keep_json(&app.note(), &report).await {
        tracing::error!(app = wanted.name, %error, "what came of an installation cannot be kept");
    }
    shop.tell(News::Deployment(report)).await;
    true
}

struct App<'a> {
    home: PathBuf,
    shop: &'a Arc<Workshop>,
    wanted: &'a DesiredDeployment,
}

/// Why a version is not the present one.
enum Over {
    /// It is not wanted any more.
    Unwanted,
    /// It could not be had, or does not work.
    Failed(DeploymentState, String),
}

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

    async fn switch(&self, signs: &Signs) -> Result<(), Over> {
        let failed = |why: io::Error| Over::Failed(DeploymentState::Failed, why.to_string());
        self.say(DeploymentState::Downloading, None).await;
        let ready = async {
            let fetched = self.fetch().await;
            fetched.map_err(|why| Over::Failed(DeploymentState::Failed, why))?;
            self.until_free(signs).await;
            Ok(())
        };
        let ready = signs.unwanted.run_until_cancelled(ready).await;
        ready.unwrap_or(Err(Over::Unwanted))?;
        let folder = self.folder();
        let version = PathBuf::from(folder.file_name().unwrap_or_default());
        let before = self.note_before(&version).await.map_err(failed)?;
        self.point(CURRENT, version).await.map_err(failed)?;
        self.say(DeploymentState::Verifying, None).await;
        let Err(why) = self.check(&folder).await else {
            self.clear_away(before.as_deref());
            return Ok(());
        };
        match before {
            None => {
                fs::remove_file(self.home.join(CURRENT)).map_err(failed)?;
                Err(Over::Failed(
                    DeploymentState::Failed,
                    format!("{why}; there is no version to go back to"),
                ))
            }
            Some(before) => {
                self.point(CURRENT, before.clone()).await.map_err(failed)?;
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
                Err(Over::Failed(
                    DeploymentState::RolledBack,
                    format!("{why}; {} runs again{again}", before.display()),
                ))
            }
        }
    }

    /// Waits as long as the robot does not want to be disturbed.
    async fn until_free(&self, signs: &Signs) {
        let mut told = false;
        while let Some(reason) = signs.busy.reason() {
            signs.metrics.postponed.inc();
            if !std::mem::replace(&mut told, true) {
                let why = format!("the robot is busy: {reason}");
                self.say(DeploymentState::Waiting, Some(why)).await;
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// The version to go back to, which is noted before the switch: an agent that was killed between
    /// that and the check finds the new version where the one before was.
    async fn note_before(&self, version: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.home.join(CURRENT)).ok() {
            Some(present) if present == version => Ok(fs::read_link(self.home.join(PREVIOUS)).ok()),
            Some(present) => {
                self.point(PREVIOUS, present.clone()).await?;
                Ok(Some(present))
            }
            None => Ok(None),
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

    /// Points a link at a version at once: whoever looks finds the old one or the new one.
    async fn point(&self, link: &str, version: PathBuf) -> io::Result<()> {
        let (fresh, link) = (self.home.join(".link.new"), self.home.join(link));
        files::aside(move || {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(version, &fresh)?;
            fs::rename(&fresh, &link)?;
            files::sync_folder(&link)
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
