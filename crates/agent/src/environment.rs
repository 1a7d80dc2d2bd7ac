//! What user commands find in their environment: the container's, without what is the agent's.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use sandlot_supervisor::DEFAULT_PATH;

/// The agent's own variables begin like this and are not handed on.
pub(crate) const OWN: &str = "SANDLOT_";

/// The environment that commands start from.
#[derive(Clone, Debug)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Made of the given variables, with PATH and HOME as a login would have them.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables: BTreeMap<_, _> = variables
            .into_iter()
            .filter(|(name, _)| !name.as_bytes().starts_with(OWN.as_bytes()))
            .collect();
        variables
            .entry("PATH".into())
            .or_insert_with(|| DEFAULT_PATH.into());
        variables.entry("HOME".into()).or_insert_with(home);
        Self(variables)
    }

    /// As pairs for a command, some replaced or added.
    pub(crate) fn with(&self, more: HashMap<String, String>) -> Vec<(OsString, OsString)> {
        let mut variables = self.0.clone();
        variables.extend(
            more.into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        variables.into_iter().collect()
    }

    /// As pairs, for a command that gets nothing special.
    pub(crate) fn plain(&self) -> Vec<(OsString, OsString)> {
        self.with(HashMap::new())
    }

    /// The shell to open for a person.
    pub(crate) fn shell(&self) -> String {
        let wanted = self
            .0
            .get(&OsString::from("SHELL"))
            .and_then(|shell| shell.to_str());
        let usual = ["/bin/bash", "/bin/sh"];
        let exists = |shell: &&str| Path::new(shell).exists();
        wanted
            .into_iter()
            .chain(usual)
            .find(exists)
            .unwrap_or("/bin/sh")
            .to_owned()
    }
}

/// The home folder that the password file names, or the root.
fn home() -> OsString {
    let uid = nix::unistd::getuid().to_string();
    let passwords = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwords
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let home = users
        .find(|user| user.get(2) == Some(&uid.as_str()))
        .and_then(|user| user.get(5).map(OsString::from));
    home.filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_variables_stay_with_it() {
        let given = [
            ("SANDLOT_AGENT_SEED", "secret"),
            ("LANG", "C"),
            ("PATH", "/bin"),
        ];
        let environment = Environment::new(given.map(|(name, value)| (name.into(), value.into())));
        let mut pairs = environment.with(HashMap::from([("LANG".to_owned(), "de".to_owned())]));
        pairs.retain(|(name, _)| name != "HOME");
        assert_eq!(
            pairs,
            [("LANG".into(), "de".into()), ("PATH".into(), "/bin".into())]
        );
    }

    #[test]
    fn path_and_home_are_always_there() {
        let pairs = Environment::new([]).plain();
        assert!(
            pairs
                .iter()
                .any(|(name, value)| name == "PATH" && value == DEFAULT_PATH)
        );
        assert!(
            pairs
                .iter()
                .any(|(name, value)| name == "HOME" && !value.is_empty())
        );
    }
}
