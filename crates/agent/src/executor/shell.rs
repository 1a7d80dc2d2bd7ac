//! Scripts as clients write them: a `bash` or `sh` in front of a plain command goes. Pure but
//! for the question which scripts exist.

/// Drops a redundant `bash ` or `sh ` in front of each plain command. One in front of an
/// option, a script's name or a script that exists stays. Where it went on both sides of a
/// single `&`, that becomes `&&`: who wrote so meant one after the other.
pub(super) fn plain(code: &str, exists: impl Fn(&str) -> bool) -> String {
    let Some(commands) = commands(code) else {
        // The first command is one, whatever comes behind it on its line.
        let first = strip(code, &exists).filter(|_| !code.contains('\n'));
        return first.unwrap_or_else(|| code.to_owned());
    };
    let mut plain = String::with_capacity(code.len());
    let (mut join, mut before_stripped) = ("", false);
    for (command, next_join) in commands {
        let stripped = strip(command, &exists);
        let is_stripped = stripped.is_some();
        plain += match join {
            "&" if before_stripped && is_stripped => "&&",
            join => join,
        };
        plain += stripped.as_deref().unwrap_or(command);
        (join, before_stripped) = (next_join, is_stripped);
    }
    plain + join
}

/// The commands, each with what joins it to the next. Quotes hold together what is in them;
/// where more than that is meant, in comments, here-documents, blocks and what is put in, nothing
/// is what it seems, and nothing comes back.
fn commands(code: &str) -> Option<Vec<(&str, &str)>> {
    let (mut commands, mut begins) = (Vec::new(), 0);
    let mut quote = None;
    let mut bytes = code.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(b'\''), b'\'') => quote = None,
            (Some(b'\''), _) => {}
            (_, b'`' | b'(') => return None,
            // What follows it is nothing but itself.
            (_, b'\\') => {
                bytes.next()?;
            }
            (Some(_), b'"') => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            // A variable's name in braces.
            (None, b'{') if code[..at].ends_with('$') => {}
            (None, b'#' | b'{' | b'<') => return None,
            (None, b';' | b'&' | b'|' | b'\n') => {
                let is_double = matches!(code.get(at..at + 2), Some("&&" | "||"));
                let ends = at + 1 + usize::from(is_double);
                if is_double {
                    bytes.next();
                }
                commands.push((&code[begins..at], &code[at..ends]));
                begins = ends;
            }
            (None, _) => {}
        }
    }
    commands.push((&code[begins..], ""));
    quote.is_none().then_some(commands)
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
            (
                "bash -c 'echo x'; sh echo y || sh echo z",
                "bash -c 'echo x'; echo y || echo z",
            ),
            ("bash echo \"a; b\" & sh ls", "echo \"a; b\" && ls"),
            ("cd src\nbash echo hi\n", "cd src\necho hi\n"),
            ("echo a 2>&1; sh ls", "echo a 2>&1; ls"),
            ("echo \\; bash ls", "echo \\; bash ls"),
            (
                "echo \"$(true; bash ls)\"; bash ls",
                "echo \"$(true; bash ls)\"; bash ls",
            ),
            ("true # ; bash ls", "true # ; bash ls"),
            ("f() { true; bash ls; }", "f() { true; bash ls; }"),
            ("echo 'a; bash ls", "echo 'a; bash ls"),
            ("echo \\", "echo \\"),
            ("bash echo $(date)", "echo $(date)"),
            ("bash echo ${A}; sh ls", "echo ${A}; ls"),
        ] {
            assert_eq!(plain(written, exists), meant, "{written:?}");
        }
    }
}
