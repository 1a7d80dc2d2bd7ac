//! What names, keys and values must look like. Each rule returns what is wrong in
//! Kubernetes' words, and nothing when all is well.

const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

/// A lowercase RFC 1123 label.
pub fn label(name: &str) -> Vec<String> {
    let mut faults = too_long(name, MAX_LABEL);
    if !is_label(name) {
        faults.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
             '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    faults
}

/// A lowercase RFC 1123 subdomain.
pub fn subdomain(name: &str) -> Vec<String> {
    let mut faults = too_long(name, MAX_SUBDOMAIN);
    if !name.split('.').all(is_label) {
        faults.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    faults
}

/// A DNS-1035 label.
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let mut faults = too_long(name, MAX_LABEL);
    if !is_label(name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        faults.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character (e.g. \
             'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    faults
}

/// A name that can stand between two slashes of a URL.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|sign| name.contains(sign));
    forbidden
        .map(|sign| format!("may not contain '{sign}'"))
        .collect()
}

/// A name with an optional prefix: the key of a label or of an annotation, a finalizer.
pub fn qualified_name(name: &str) -> Vec<String> {
    const SHAPE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                         and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                         '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut faults = Vec::new();
    let local = match name.split('/').collect::<Vec<_>>().as_slice() {
        [local] => *local,
        [prefix, local] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    subdomain(prefix)
                        .iter()
                        .map(|fault| format!("prefix part {fault}")),
                );
            }
            *local
        }
        _ => {
            return vec![format!(
                "a qualified name {SHAPE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if local.is_empty() {
        faults.push("name part must be non-empty".into());
    } else {
        faults.extend(
            too_long(local, MAX_LABEL)
                .iter()
                .map(|fault| format!("name part {fault}")),
        );
    }
    if !is_wordy(local) {
        faults.push(format!("name part {SHAPE}"));
    }
    faults
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = too_long(value, MAX_LABEL);
    if !value.is_empty() && !is_wordy(value) {
        faults.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  \
             or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        );
    }
    faults
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    if text.len() > most {
        vec![format!("must be no more than {most} bytes")]
    } else {
        Vec::new()
    }
}

fn is_label(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    is_framed(text, plain, |c| c == b'-')
}

fn is_wordy(text: &str) -> bool {
    is_framed(
        text,
        |c| c.is_ascii_alphanumeric(),
        |c| matches!(c, b'-' | b'_' | b'.'),
    )
}

/// Whether the text starts and ends with `plain` characters and has only those and `inner`
/// ones between.
fn is_framed(text: &str, plain: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| plain(*c))
        && bytes.last().is_some_and(|c| plain(*c))
        && bytes.iter().all(|c| plain(*c) || inner(*c))
}
