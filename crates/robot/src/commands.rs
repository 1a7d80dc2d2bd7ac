//! Commands: done at most once, within their time.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sandlot_api::robot::{
    CommandResultState,
    wire::{COMMAND_OUTPUT, CommandReport, DesiredCommand, News},
};
use sandlot_supervisor::{End, Key, Launch, Stream};
use tokio_util::sync::CancellationToken;

use crate::{
    files,
    task::{Workshop, tail},
};

/// The results of so many commands are kept, and of younger ones than this however many there are:
/// one that is told again is not done again.
const REMEMBERED: usize = 1024;
const YOUNG: Duration = Duration::from_secs(7 * 24 * 3600);
/// A clock may be off by so much before a deadline is counted from when the command came.
const SKEW: Duration = Duration::from_secs(30);

/// What is known of the commands that came.
pub(crate) struct Commands {
    folder: PathBuf,
    /// Whether programs may be run.
    allowed: bool,
    /// The agent is to start anew.
    restart: CancellationToken,
}

impl Commands {
    pub(crate) fn open(
        folder: &Path,
        allowed: bool,
        restart: CancellationToken,
    ) -> io::Result<Self> {
        let folder = folder.join("commands");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            allowed,
            restart,
        })
    }

    /// Does a command, unless it was begun before: then it says again what came of it.
    pub(crate) async fn take(
        &self,
        shop: &Arc<Workshop>,
        command: DesiredCommand,
        came: Timestamp,
    ) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if command.uid.is_empty() || !command.uid.bytes().all(plain) {
            return;
        }
        let path = self.folder.join(&command.uid);
        let begun = begin(path.clone()).await;
        let is_first = matches!(begun, Ok(true));
        let report = match begun {
            Ok(true) => {
                let report = self.carry_out(shop, &command, came).await;
                if let Err(error) = files::keep_json(&path, &report).await {
                    tracing::error!(command = command.name, %error, "what came of a command cannot be kept");
                }
                report
            }
            Ok(false) => match files::read_json::<CommandReport>(&path) {
                Ok(Some(report)) => report,
                _ => self.report(
                    &command,
                    CommandResultState::Failed,
                    "the agent was stopped while this was done; it is not done twice",
                ),
            },
            Err(error) => self.report(
                &command,
                CommandResultState::Failed,
                &format!("it cannot be noted that this was begun, so it was not: {error}"),
            ),
        };
        let restarts = is_first
            && command.verb == "restart-agent"
            && report.state == CommandResultState::Succeeded;
        shop.tell(News::Command(report)).await;
        // The next agent finds the command in its document until the cluster has heard what came of
        // it: that one has begun anew already.
        if restarts {
            self.restart.cancel();
        }
    }

    /// Forgets the oldest results when there are many.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        files::keep_newest(&self.folder, REMEMBERED, YOUNG, |path| {
            fs::remove_file(path)
        })
    }

    async fn carry_out(
        &self,
        shop: &Arc<Workshop>,
        command: &DesiredCommand,
        came: Timestamp,
    ) -> CommandReport {
        let report = |state, why: &str| self.report(command, state, why);
        if command.cancel {
            return report(
                CommandResultState::Cancelled,
                "cancelled before it was begun",
            );
        }
        let Some(left) = time_left(command, came, Timestamp::now()) else {
            return report(
                CommandResultState::Expired,
                "its time was over before it was begun",
            );
        };
        match command.verb.as_str() {
            "ping" | "restart-agent" => report(CommandResultState::Succeeded, ""),
            "exec" if !self.allowed => report(
                CommandResultState::Rejected,
                "this robot lets no commands run programs; start its agent with --allow-commands",
            ),
            "exec" if command.args.is_empty() => report(
                CommandResultState::Rejected,
                "exec takes the program and its arguments as args",
            ),
            "exec" => self.run(shop, command, left).await,
            verb => report(
                CommandResultState::Rejected,
                &format!(
                    "this robot knows no verb {verb:?}; it knows exec, ping and restart-agent"
                ),
            ),
        }
    }

    async fn run(
        &self,
        shop: &Arc<Workshop>,
        command: &DesiredCommand,
        left: Duration,
    ) -> CommandReport {
        let failed = |why: String| self.report(command, CommandResultState::Failed, &why);
        let key = match Key::new(format!("command/{}", command.uid)) {
            Ok(key) => key,
            Err(error) => return failed(error.to_string()),
        };
        let mut launch = Launch::new(command.args.iter());
        launch.env = vec![
            ("PATH".into(), sandlot_supervisor::DEFAULT_PATH.into()),
            ("ROBOT_ID".into(), (&shop.robot).into()),
        ];
        launch.cwd = Some(shop.folder.clone());
        launch.timeout = Some(left);
        launch.grace = Duration::from_secs(2);
        let run = match shop.supervisor.start(key, launch).await {
            Ok(run) => run,
            Err(error) => return failed(error.to_string()),
        };
        let Some(outcome) = run.ended().await else {
            return failed("the agent was stopped while this was done".to_owned());
        };
        let mut output = tail(&run, Stream::Stdout).await;
        output.push_str(&tail(&run, Stream::Stderr).await);
        let state = match outcome.end {
            End::Exited(0) => CommandResultState::Succeeded,
            End::TimedOut { .. } => CommandResultState::Expired,
            _ => CommandResultState::Failed,
        };
        CommandReport {
            exit_code: Some(outcome.end.code()),
            output: Some(last(&output, COMMAND_OUTPUT).to_owned()),
            ..self.report(command, state, &outcome.reason)
        }
    }

    fn report(
        &self,
        command: &DesiredCommand,
        state: CommandResultState,
        why: &str,
    ) -> CommandReport {
        CommandReport {
            uid: command.uid.clone(),
            name: command.name.clone(),
            state,
            message: (!why.is_empty()).then(|| why.to_owned()),
            ..CommandReport::default()
        }
    }
}

/// Notes that a command is begun, before it is; `false` when it was before.
async fn begin(path: PathBuf) -> io::Result<bool> {
    files::aside(move || match File::create_new(&path) {
        Ok(_) => files::sync_folder(&path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    })
    .await
}

/// How long a command may still take. A robot whose clock is off counts from when the command
/// came.
fn time_left(command: &DesiredCommand, came: Timestamp, now: Timestamp) -> Option<Duration> {
    let by_clock = Duration::try_from(command.expires_at.duration_since(now)).ok();
    let Some(told) = command.time_left.map(|left| left.0) else {
        return by_clock.filter(|left| !left.is_zero());
    };
    let passed = Duration::try_from(now.duration_since(came)).unwrap_or_default();
    let by_count = told.checked_sub(passed).filter(|left| !left.is_zero())?;
    match by_clock {
        Some(by_clock) if by_clock <= by_count + SKEW => Some(by_clock.min(by_count)),
        _ => Some(by_count),
    }
}

/// The end of a text, from where a character begins.
fn last(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use sandlot_api::GoDuration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn command(expires: i64, left: Option<u64>) -> DesiredCommand {
        DesiredCommand {
            uid: "a".to_owned(),
            name: "a".to_owned(),
            verb: "ping".to_owned(),
            args: vec![],
            expires_at: at(expires),
            time_left: left.map(|seconds| GoDuration(Duration::from_secs(seconds))),
            cancel: false,
        }
    }

    #[test]
    fn a_clock_that_is_off_does_not_decide() {
        let seconds = Duration::from_secs;
        assert_eq!(
            time_left(&command(100, None), at(40), at(40)),
            Some(seconds(60))
        );
        assert_eq!(time_left(&command(100, None), at(40), at(100)), None);
        // The robot's clock is an hour ahead, or behind.
        assert_eq!(
            time_left(&command(100, Some(60)), at(3640), at(3650)),
            Some(seconds(50))
        );
        assert_eq!(
            time_left(&command(4000, Some(60)), at(40), at(50)),
            Some(seconds(50))
        );
        assert_eq!(time_left(&command(100, Some(60)), at(40), at(101)), None);
    }

    #[test]
    fn the_end_of_a_text_begins_with_a_whole_character() {
        assert_eq!(last("aäb", 2), "b");
        assert_eq!(last("aäb", 3), "äb");
    }
}
