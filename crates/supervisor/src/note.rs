//! The note a keeper leaves: a few numbers in a file that outlive the supervisor.
//!
//! The keeper writes it after `fork`, where nothing may allocate, so it is a fixed row of
//! integers. It tells a supervisor that comes back what became of the command.

use std::time::Duration;

use crate::outcome::Usage;

/// How many bytes a note has.
pub(crate) const NOTE_BYTES: usize = FIELDS * 8;
const FIELDS: usize = 13;
/// "Sandlot1", so that a foreign or torn file is not taken for a note.
const MAGIC: i64 = i64::from_be_bytes(*b"Sandlot1");

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The keeper is there; from here on user code may have run.
    Begun,
    /// The command runs.
    Running,
    /// The command could not be started; the note's `detail` is the error number.
    Failed(Step),
    /// The main process ended; the note's `detail` is its wait status.
    Ended,
}

/// What the child was doing when starting failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Forking.
    Fork,
    /// Entering the working directory.
    Directory,
    /// Becoming the user.
    User,
    /// Taking the terminal.
    Terminal,
    /// Replacing itself by the program.
    Exec,
    /// Entering the other container.
    Enter,
}

/// What the keeper knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) stage: Stage,
    /// The keeper's process id.
    pub(crate) keeper: i32,
    /// The main process's id; 0 before there is one.
    pub(crate) main: i32,
    /// Error number or wait status, by stage.
    pub(crate) detail: i32,
    /// Whether no process of the tree is left.
    pub(crate) alone: bool,
    /// Nanoseconds since 1970.
    pub(crate) started: i64,
    /// Nanoseconds since 1970.
    pub(crate) finished: i64,
    pub(crate) usage: Usage,
}

const STEPS: [Step; 6] = [
    Step::Fork,
    Step::Directory,
    Step::User,
    Step::Terminal,
    Step::Exec,
    Step::Enter,
];

impl Step {
    pub(crate) fn number(self) -> i64 {
        // The position in STEPS, spelled out because this runs where nothing may panic.
        match self {
            Self::Fork => 0,
            Self::Directory => 1,
            Self::User => 2,
            Self::Terminal => 3,
            Self::Exec => 4,
            Self::Enter => 5,
        }
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        usize::try_from(number)
            .ok()
            .and_then(|n| STEPS.get(n).copied())
    }
}

impl Note {
    /// The note as bytes. Allocates nothing.
    pub(crate) fn bytes(&self) -> [u8; NOTE_BYTES] {
        let stage = match self.stage {
            Stage::Begun => 1,
            Stage::Running => 2,
            Stage::Ended => 3,
            Stage::Failed(step) => 16 + step.number(),
        };
        let fields: [i64; FIELDS] = [
            MAGIC,
            stage,
            self.keeper.into(),
            self.main.into(),
            self.detail.into(),
            self.started,
            self.finished,
            micros(self.usage.user),
            micros(self.usage.system),
            self.usage.peak_memory.cast_signed(),
            self.usage.read.cast_signed(),
            self.usage.written.cast_signed(),
            self.alone.into(),
        ];
        let mut bytes = [0; NOTE_BYTES];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// The note in these bytes, if it is one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != NOTE_BYTES {
            return None;
        }
        let mut fields = [0i64; FIELDS];
        for (field, place) in fields.iter_mut().zip(bytes.chunks_exact(8)) {
            *field = i64::from_le_bytes(place.try_into().ok()?);
        }
        let stage = match fields[1] {
            1 => Stage::Begun,
            2 => Stage::Running,
            3 => Stage::Ended,
            other => Stage::Failed(Step::of(other - 16)?),
        };
        (fields[0] == MAGIC).then_some(Self {
            stage,
            keeper: i32::try_from(fields[2]).ok()?,
            main: i32::try_from(fields[3]).ok()?,
            detail: i32::try_from(fields[4]).ok()?,
            alone: fields[12] != 0,
            started: fields[5],
            finished: fields[6],
            usage: Usage {
                user: Duration::from_micros(fields[7].unsigned_abs()),
                system: Duration::from_micros(fields[8].unsigned_abs()),
                peak_memory: fields[9].cast_unsigned(),
                read: fields[10].cast_unsigned(),
                written: fields[11].cast_unsigned(),
            },
        })
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_note_reads_back_as_it_was_written(
            stage in prop_oneof![
                Just(Stage::Begun),
                Just(Stage::Running),
                Just(Stage::Ended),
                prop::sample::select(&STEPS[..]).prop_map(Stage::Failed),
            ],
            keeper: i32, main: i32, detail: i32, started: i64, finished: i64,
            alone: bool, cpu in 0u64..1 << 50, memory: u64, read: u64,
        ) {
            let usage = Usage {
                user: Duration::from_micros(cpu),
                system: Duration::from_micros(cpu / 2),
                peak_memory: memory,
                read,
                written: read ^ memory,
            };
            let note = Note { stage, keeper, main, detail, alone, started, finished, usage };
            prop_assert_eq!(Note::parse(&note.bytes()), Some(note));
        }

        #[test]
        fn foreign_bytes_are_no_note(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Note::parse(&bytes), None);
        }
    }
}
