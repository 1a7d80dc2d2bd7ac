//! Points in time as tables show them: how long ago.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// How long ago the time at `pointer` in the object was.
pub(super) fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    match object.pointer(pointer).and_then(Value::as_str) {
        Some(text) => since_text(text, now),
        None => "<unknown>".into(),
    }
}

/// How long ago the time was that `text` writes.
pub(super) fn since_text(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => humanize(now.duration_since(time)),
        Err(_) => "<invalid>".into(),
    }
}

/// A duration in the two largest units that matter, as kubectl shows ages.
pub fn humanize(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let years = days / 365;
    let two = |large: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match () {
        // Clocks differ a little: what is not quite yet is now.
        () if seconds < -1 => "<invalid>".into(),
        () if seconds < 0 => "0s".into(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if years < 2 => format!("{days}d"),
        () if years < 8 => two(years, 'y', days % 365, 'd'),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_shows_them() {
        let (m, h, d, y) = (60, 3_600, 86_400, 365 * 86_400);
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * m, "2m"),
            (9 * m + 59, "9m59s"),
            (10 * m + 1, "10m"),
            (179 * m, "179m"),
            (3 * h, "3h"),
            (7 * h + 59 * m, "7h59m"),
            (8 * h + m, "8h"),
            (47 * h, "47h"),
            (2 * d, "2d"),
            (7 * d + 23 * h, "7d23h"),
            (8 * d + h, "8d"),
            (729 * d, "729d"),
            (2 * y, "2y"),
            (3 * y + 4 * d, "3y4d"),
            (8 * y + 4 * d, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(
                humanize(SignedDuration::from_secs(seconds)),
                text,
                "{seconds}"
            );
        }
    }
}
