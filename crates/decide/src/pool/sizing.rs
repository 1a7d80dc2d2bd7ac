//! How many idle pods a pool wants.

/// The rule by which a pool is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// So many idle pods, whatever number is in use; none at all when it is zero.
    Idle {
        /// The number of idle pods.
        replicas: u32,
    },
    /// Idle pods between two bounds, within bounds of the whole pool.
    Buffer {
        /// Fewest idle pods.
        buffer_min: u32,
        /// Most idle pods.
        buffer_max: u32,
        /// Fewest pods in all; wins over `buffer_max`.
        pool_min: u32,
        /// Most pods in all; wins over `pool_min`, but never takes a pod from anybody.
        pool_max: u32,
    },
}

impl Sizing {
    /// How many idle pods there should be, given how many are idle and in use now and how many
    /// pods the waiting claims want.
    pub fn idle(&self, idle: u32, taken: u32, wanted: u32) -> u32 {
        match *self {
            Self::Idle { replicas: 0 } => 0,
            Self::Idle { replicas } => replicas.saturating_add(wanted),
            Self::Buffer {
                buffer_min,
                buffer_max,
                pool_min,
                pool_max,
            } => {
                let buffer = if (buffer_min..=buffer_max).contains(&idle) {
                    idle
                } else {
                    ((u64::from(buffer_min) + u64::from(buffer_max)) / 2) as u32
                };
                let all = taken
                    .saturating_add(wanted)
                    .saturating_add(buffer)
                    .max(pool_min);
                // A pool over its maximum makes no more pods; it loses idle ones only when the
                // buffer rule alone says so.
                let room = pool_max.saturating_sub(taken);
                (all - taken).min(room.max(idle))
            }
        }
    }
}

/// A number of pods, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded up.
    Percent(u32),
}

impl Share {
    /// The number it makes of a whole; at least one, so that things move.
    pub fn of(self, whole: u32) -> u32 {
        let share = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from((u64::from(whole) * u64::from(percent)).div_ceil(100))
                    .unwrap_or(u32::MAX)
            }
        };
        share.max(1)
    }
}
