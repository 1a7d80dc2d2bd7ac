//! Templates: files written into a task's folder, with what the robot and the job know put in.
//!
//! Between the delimiters stands one of `env "NAME"`, `meta "KEY"`, `label "KEY"`, `robot "id"`,
//! or the same with a dot, as `env.NAME`. What is not known is empty; what is no such expression
//! is an error, so that a typing mistake does not end up in a configuration file.

use std::collections::BTreeMap;

use sandlot_api::robot::Template;

/// A template has at most so many bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// What a template can ask for.
pub(crate) struct Known<'a> {
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) meta: &'a BTreeMap<String, String>,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) robot: &'a str,
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// An expression has no end.
    #[error("an expression that begins with {0:?} has no end")]
    Open(String),
    /// An expression asks for nothing there is.
    #[error(
        "{0:?} is no expression: write env, meta, label or robot and a name, as in env \"HOME\""
    )]
    Unknown(String),
}

/// The text that a template comes to.
pub(crate) fn render(
    text: &str,
    template: &Template,
    known: &Known<'_>,
) -> Result<String, TemplateError> {
    let delimiter = |given: &Option<String>, usual: &'static str| match given.as_deref() {
        None | Some("") => usual.to_owned(),
        Some(given) => given.to_owned(),
    };
    let left = delimiter(&template.left_delim, "{{");
    let right = delimiter(&template.right_delim, "}}");
    let mut rendered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, opened)) = rest.split_once(&left) {
        rendered.push_str(before);
        let Some((expression, after)) = opened.split_once(&right) else {
            return Err(TemplateError::Open(opened.chars().take(40).collect()));
        };
        rendered.push_str(&value(expression.trim(), known)?);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn value(expression: &str, known: &Known<'_>) -> Result<String, TemplateError> {
    let unknown = || TemplateError::Unknown(expression.to_owned());
    let (what, name) = expression
        .split_once(|c: char| c == '.' || c.is_whitespace())
        .ok_or_else(unknown)?;
    let name = name.trim().trim_matches('"');
    let found = match what {
        "env" => known.env.get(name),
        "meta" => known.meta.get(name),
        "label" => known.labels.get(name),
        "robot" if name == "id" => return Ok(known.robot.to_owned()),
        _ => return Err(unknown()),
    };
    Ok(found.cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, template: &Template) -> Result<String, TemplateError> {
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let known = Known {
            env: &map("PORT", "8080"),
            meta: &map("site", "hall 3"),
            labels: &map("arm.count", "2"),
            robot: "arm-1",
        };
        render(text, template, &known)
    }

    #[test]
    fn what_is_known_is_put_in() {
        let text = "port={{ env \"PORT\" }} at={{meta.site}} arms={{label \"arm.count\"}} {{ robot.id }}{{env \"NONE\"}}";
        assert_eq!(
            rendered(text, &Template::default()).unwrap(),
            "port=8080 at=hall 3 arms=2 arm-1"
        );
        let other = Template {
            left_delim: Some("<%".to_owned()),
            right_delim: Some("%>".to_owned()),
            ..Template::default()
        };
        assert_eq!(
            rendered("{{x}} <% env.PORT %>", &other).unwrap(),
            "{{x}} 8080"
        );
    }

    #[test]
    fn mistakes_are_said_rather_than_written() {
        for text in [
            "{{ env \"PORT\"",
            "{{ secret \"x\" }}",
            "{{}}",
            "{{ robot.name }}",
        ] {
            assert!(rendered(text, &Template::default()).is_err(), "{text}");
        }
    }
}
