//! Named formats of strings and numbers, as a CRD may ask for them.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

/// Whether the text has the format. A format nobody knows is no restriction.
pub fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => {
            text.parse::<jiff::Timestamp>().is_ok() && text.contains(['T', 't'])
        }
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => duration(text),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "hexcolor" => {
            let hex = text.strip_prefix('#').unwrap_or(text);
            matches!(hex.len(), 3 | 6) && hex.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "rgbcolor" => rgb(text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => pattern_of_digits(text, &[3, 2, 4]),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "k8s-short-name" => label(text),
        "k8s-long-name" => text.len() <= 253 && text.split('.').all(label_part),
        _ => true,
    }
}

/// The formats that are checked; any other is passed over.
pub fn is_known(format: &str) -> bool {
    const KNOWN: &[&str] = &[
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "date-time",
        "datetime",
        "int32",
        "int64",
        "float",
        "double",
        "k8s-short-name",
        "k8s-long-name",
    ];
    KNOWN.contains(&format)
}

/// A span of time as Go writes it (`1h30m`, `-1.5s`), or in words (`3 days`).
pub fn duration(text: &str) -> bool {
    go_duration(text).is_some() || worded_duration(text)
}

/// A span of time as Go writes it, in nanoseconds.
pub fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|&end| end > 0)?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, nanos) = [
            ("ns", 1f64),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))?;
        total += number * nanos;
        rest = &rest[unit.len()..];
    }
    (total < i64::MAX as f64).then_some(sign * total as i64)
}

fn worded_duration(text: &str) -> bool {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].trim().to_ascii_lowercase();
    const UNITS: &[&str] = &[
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "second", "m", "min",
        "minute", "h", "hr", "hour", "d", "day", "w", "wk", "week",
    ];
    digits > 0
        && UNITS
            .iter()
            .any(|known| unit == *known || unit.strip_suffix('s') == Some(known))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let Ok(bits) = bits.parse::<u8>() else {
        return false;
    };
    plain
        && ((address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
            || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128))
}

fn mac(text: &str) -> bool {
    let parts = |separator: char, width: usize| -> Option<usize> {
        let mut bytes = 0;
        for part in text.split(separator) {
            if part.len() != width || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            bytes += width / 2;
        }
        Some(bytes)
    };
    [parts(':', 2), parts('-', 2), parts('.', 4)]
        .into_iter()
        .flatten()
        .any(|bytes| matches!(bytes, 6 | 8 | 20))
}

fn uri(text: &str) -> bool {
    // As Go's url.ParseRequestURI: absolute, or a rooted path; nothing unprintable.
    if text.is_empty() || text.contains(|c: char| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && !rest.is_empty()
}

fn email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(start), Some(open)) => &open[start + 1..],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !domain.is_empty()
        && !address.contains(|c: char| c.is_whitespace() || c.is_control())
        && !domain.contains('@')
        && !local.contains('@')
}

fn hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    !text.is_empty()
        && text.len() <= 255
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        })
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let hex: String = text.chars().filter(|&c| c != '-').collect();
    let dashes_fit =
        !text.contains('-') || pattern_of(text, &[8, 4, 4, 4, 12], |b| b.is_ascii_hexdigit());
    dashes_fit
        && hex.len() == 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && version.is_none_or(|version| hex.chars().nth(12) == Some(version))
        && (!matches!(version, Some('4' | '5'))
            || matches!(
                hex.as_bytes()[16].to_ascii_lowercase(),
                b'8' | b'9' | b'a' | b'b'
            ))
}

fn rgb(text: &str) -> bool {
    let Some(inner) = text
        .strip_prefix("rgb(")
        .and_then(|rest| rest.strip_suffix(')'))
    else {
        return false;
    };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn isbn10(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'-' | b' ')).collect();
    let Some((last, nine)) = digits.split_last() else {
        return false;
    };
    if digits.len() != 10
        || !nine.iter().all(u8::is_ascii_digit)
        || !(last.is_ascii_digit() || *last == b'X')
    {
        return false;
    }
    let value = |b: u8| if b == b'X' { 10 } else { u32::from(b - b'0') };
    digits
        .iter()
        .enumerate()
        .map(|(at, &b)| (at as u32 + 1) * value(b))
        .sum::<u32>()
        % 11
        == 0
}

fn isbn13(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'-' | b' ')).collect();
    digits.len() == 13
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .enumerate()
            .map(|(at, b)| u32::from(b - b'0') * if at % 2 == 0 { 1 } else { 3 })
            .sum::<u32>()
            % 10
            == 0
}

fn credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text
        .bytes()
        .filter(u8::is_ascii_digit)
        .map(|b| u32::from(b - b'0'))
        .collect();
    (13..=16).contains(&digits.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b' '))
        && digits
            .iter()
            .rev()
            .enumerate()
            .map(|(at, &d)| match (at % 2, d * 2) {
                (0, _) => d,
                (_, twice) if twice > 9 => twice - 9,
                (_, twice) => twice,
            })
            .sum::<u32>()
            % 10
            == 0
}

fn pattern_of_digits(text: &str, widths: &[usize]) -> bool {
    pattern_of(&text.replace(' ', "-"), widths, |b| b.is_ascii_digit())
}

fn pattern_of(text: &str, widths: &[usize], fits: impl Fn(u8) -> bool) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == widths.len()
        && parts
            .iter()
            .zip(widths)
            .all(|(part, &width)| part.len() == width && part.bytes().all(&fits))
}

fn label(text: &str) -> bool {
    text.len() <= 63 && label_part(text)
}

fn label_part(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_should_and_nothing_else() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123+02:00"],
                &["2026-01-02", "now", ""],
            ),
            (
                "date",
                &["2026-02-28"],
                &["2026-02-30", "2026-2-28", "20260228"],
            ),
            (
                "duration",
                &["1h30m", "0", "-1.5s", "300ms", "3 days", "1w"],
                &["", "1", "h", "1x", "1h 3"],
            ),
            ("byte", &["", "aGk="], &["aGk", "%%"]),
            ("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "256.0.0.1"]),
            ("ipv6", &["::1", "fe80::1"], &["10.0.0.1", "g::"]),
            (
                "cidr",
                &["10.0.0.0/8", "::/0"],
                &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08"],
            ),
            (
                "mac",
                &["01:02:03:04:05:ab"],
                &["01:02:03:04:05", "01:02:03:04:05:zz"],
            ),
            (
                "uri",
                &["https://a.b/c?d", "/path", "urn:x"],
                &["", "a b", "relative"],
            ),
            (
                "uuid",
                &["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
                &["f81d4fae", "f81d4fae-7dec-11d0-a765-00a0c91e6bfg"],
            ),
            (
                "uuid4",
                &["9b2e3f1c-8d1e-4b0a-9c59-0123456789ab"],
                &["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
            ),
            (
                "email",
                &["a@b.c", "A B <a@b.c>"],
                &["a", "@b", "a@", "a b@c"],
            ),
            (
                "hostname",
                &["a.example.com", "A1"],
                &["", "-a", "a..b", "a_b"],
            ),
            ("isbn10", &["0-306-40615-2"], &["0-306-40615-3"]),
            ("isbn13", &["978-0-306-40615-7"], &["978-0-306-40615-8"]),
            (
                "creditcard",
                &["4111 1111 1111 1111"],
                &["4111 1111 1111 1112"],
            ),
            ("hexcolor", &["#fff", "aabbcc"], &["#ffff"]),
            ("rgbcolor", &["rgb(0, 10,255)"], &["rgb(0,10,256)"]),
            ("password", &["anything"], &[]),
            ("made-up", &["anything"], &[]),
        ];
        for (format, good, bad) in cases {
            for text in *good {
                assert!(matches(format, text), "{format} should take {text:?}");
            }
            for text in *bad {
                assert!(!matches(format, text), "{format} should refuse {text:?}");
            }
        }
    }
}
