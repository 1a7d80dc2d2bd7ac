//! Moments as clients and the database know them.

use jiff::Timestamp;

/// Milliseconds since 1970, as the database keeps them; 0 is never.
pub(crate) fn millis(moment: Option<Timestamp>) -> i64 {
    moment.map_or(0, Timestamp::as_millisecond)
}

/// The moment so many milliseconds after 1970; nothing for 0 or what is no moment.
pub(crate) fn of_millis(millis: i64) -> Option<Timestamp> {
    (millis != 0)
        .then(|| Timestamp::from_millisecond(millis).ok())
        .flatten()
}

/// Now, no finer than the database keeps it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// ISO 8601 in UTC without a zone, as existing clients read it.
pub(crate) fn naive(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// The same where there may be no moment.
pub(crate) fn naive_or_null(moment: Option<Timestamp>) -> Option<String> {
    moment.map(naive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_milliseconds_and_no_zone() {
        let moment = of_millis(1_700_000_000_123).unwrap();
        assert_eq!(naive(moment), "2023-11-14T22:13:20.123000");
        assert_eq!(millis(Some(moment)), 1_700_000_000_123);
        assert_eq!(of_millis(0), None);
    }
}
