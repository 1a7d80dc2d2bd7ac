//! What an interpreter that waits is still told of its environment. Pure.

use std::ffi::OsString;

use sandlot_api::executor::ABOUT_THE_SESSION;

/// The variables that a command is started with, in their order.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// What an interpreter that was started with one environment is told so that it has another;
/// nothing if its start may have looked at what is different.
pub(super) fn still_to_tell(started: &Environment, wanted: &Environment) -> Option<Environment> {
    let (about, others) = apart(wanted);
    let (known, started_with) = apart(started);
    let is_there = |name: &OsString| about.iter().any(|(other, _)| other == name);
    if others != started_with || !known.iter().all(|(name, _)| is_there(name)) {
        return None;
    }
    let untold = about.into_iter().filter(|pair| !known.contains(pair));
    Some(untold.cloned().collect())
}

type Pairs<'a> = Vec<&'a (OsString, OsString)>;

/// What tells of the session, and the rest.
fn apart(variables: &Environment) -> (Pairs<'_>, Pairs<'_>) {
    let tells_of_session =
        |(name, _): &&(OsString, OsString)| ABOUT_THE_SESSION.iter().any(|about| *name == **about);
    variables.iter().partition(tells_of_session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    #[test]
    fn only_what_tells_of_the_session_is_told_late() {
        let warm = environment(&[("HOME", "/w"), ("PATH", "/bin")]);
        let ours = environment(&[("HOME", "/w"), ("PATH", "/bin"), ("SESSION_ID", "s")]);
        let session = environment(&[("SESSION_ID", "s")]);
        assert_eq!(still_to_tell(&warm, &warm), Some(Environment::new()));
        assert_eq!(still_to_tell(&warm, &ours), Some(session));
        assert_eq!(still_to_tell(&ours, &ours), Some(Environment::new()));
        for other in [
            &[("HOME", "/w"), ("PATH", "/usr/bin"), ("SESSION_ID", "s")][..],
            &[("HOME", "/w"), ("PATH", "/bin"), ("PYTHONPATH", "/p")],
            &[("HOME", "/w"), ("PATH", "/bin"), ("MINE", "x")],
            &[("HOME", "/w")],
        ] {
            assert_eq!(still_to_tell(&warm, &environment(other)), None, "{other:?}");
        }
    }

    #[test]
    fn nobody_forgets_what_was_told() {
        let told = environment(&[("PATH", "/bin"), ("SESSION_ID", "s")]);
        assert_eq!(
            still_to_tell(&told, &environment(&[("PATH", "/bin")])),
            None
        );
    }
}
