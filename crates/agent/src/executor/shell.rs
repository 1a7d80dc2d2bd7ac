//! Scripts as clients write them: a `bash` or `sh` in front of a plain command goes. Pure but
//! for the question which scripts exist.

/// Drops a redundant `bash ` or `sh ` in front of each plain command. One in front of an
/// option, a script's name or a script that exists stays. Where it went on both sides of a
/// single `&`, that becomes `&&`: who wrote so meant one after the other.
pub(super) fn plain(code: &str, exists: impl Fn(&str) -> bool) -> String {
    // In quotes, comments, here-documents and blocks of lines nothing is what it seems.
    if code.contains(['\'', '"', '`', '#', '\n', '\\', '(', '{', '<']) {
        return match strip(code, &exists) {
            Some(rest) if !code.contains('\n') => rest,
            _ => code.to_owned(),
        };
    }
    let mut plain = String::with_capacity(code.len());
    let (mut rest, mut before_stripped, mut join) = (code, false, "");
    loop {
        let (segment, next_join, next) = split(rest);
        let stripped = strip(segment, &exists);
        if join == "&" && before_stripped && stripped.is_some() {
            join = "&&";
        }
        plain += join;
        before_stripped = stripped.is_some();
        plain += stripped.as_deref().unwrap_or(segment);
        if next_join.is_empty() {
            return plain;
        }
        (join, rest) = (next_join, next);
    }
}

/// The first command, what joins it to the next, and the rest.
fn split(code: &str) -> (&str, &str, &str) {
    let Some(at) = code.find([';', '&', '|']) else {
        return (code, "", "");
    };
    let length = match code.get(at..at + 2) {
        Some("&&" | "||") => 2,
        _ => 1,
    };
    (&code[..at], &code[at..at + length], &code[at + length..])
}

/// The command without its redundant shell; nothing where it has none.
fn strip(segment: &str, exists: &impl Fn(&str) -> bool) -> Option<String> {
    let trimmed = segment.trim_start();
    let command = ["bash ", "sh "]
        .into_iter()
        .find_map(|shell| trimmed.strip_prefix(shell))?
        .trim_start();
    let first = command.split_whitespace().next()?;
    let is_script = first.ends_with(".sh") || first.ends_with(".bash") || exists(first);
    if first.starts_with('-') || is_script {
        return None;
    }
    let indent = &segment[..segment.len() - trimmed.len()];
    Some(format!("{indent}{command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redundant_shell_goes_and_a_needed_one_stays() {
        let exists = |name: &str| name == "./run";
        for (written, meant) in [
            ("echo hi", "echo hi"),
            ("bash echo hi", "echo hi"),
            ("sh ls -l", "ls -l"),
            ("bash echo 'a; b'", "echo 'a; b'"),
            ("bash -c 'echo hi'", "bash -c 'echo hi'"),
            ("bash build.sh", "bash build.sh"),
            ("sh ./run now", "sh ./run now"),
            ("bash echo a && sh echo b", "echo a && echo b"),
            ("bash echo a & bash echo b", "echo a && echo b"),
            ("bash echo a & echo b", "echo a & echo b"),
            ("bash echo a | sh cat ; ls", "echo a | cat ; ls"),
            ("echo 'bash echo'", "echo 'bash echo'"),
            ("cat <<E\nbash echo\nE", "cat <<E\nbash echo\nE"),
        ] {
            assert_eq!(plain(written, exists), meant, "{written:?}");
        }
    }
}
