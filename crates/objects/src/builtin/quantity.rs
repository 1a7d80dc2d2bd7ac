//! Amounts of resources: `500m`, `1Gi`, `1e3`.

/// How many decimal digits a number may have; far more than fits the range.
const MAX_DIGITS: usize = 40;

/// An amount, in billionths of a unit; `None` if the text is no quantity.
///
/// Amounts beyond the range of Kubernetes (2⁶³ units) are cut to it, and what is finer than
/// a billionth is rounded up, as Kubernetes does.
pub fn parse(text: &str) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    const MOST: i128 = i64::MAX as i128 * NANO;
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.len() + fraction.len() == 0 || number.len() > MAX_DIGITS {
        return None;
    }
    let (scale_two, scale_ten) = scale(suffix)?;
    // digits × 10^(scale - fraction) × 2^scale_two, in billionths.
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let exponent = scale_ten - i32::try_from(fraction.len()).ok()? + 9;
    let scaled = match u32::try_from(exponent) {
        Ok(up) => digits.checked_mul(10i128.checked_pow(up).unwrap_or(i128::MAX)),
        Err(_) => {
            let down = 10i128
                .checked_pow(exponent.unsigned_abs())
                .unwrap_or(i128::MAX);
            // Powers of two come first, so that nothing is lost before rounding.
            let big = digits.checked_mul(1i128 << scale_two).unwrap_or(i128::MAX);
            return Some(
                signed(negative, big.div_euclid(down) + i128::from(big % down != 0))
                    .clamp(-MOST, MOST),
            );
        }
    };
    let amount = scaled
        .and_then(|amount| amount.checked_mul(1i128 << scale_two))
        .unwrap_or(MOST);
    Some(signed(negative, amount).clamp(-MOST, MOST))
}

fn signed(negative: bool, amount: i128) -> i128 {
    if negative { -amount } else { amount }
}

/// What a suffix multiplies by: a power of two and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            (0, (-60..=60).contains(&power).then_some(power)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn quantities_are_what_kubernetes_takes_them_for() {
        let cases = [
            ("0", Some(0)),
            ("1", Some(1_000_000_000)),
            ("500m", Some(500_000_000)),
            ("0.5", Some(500_000_000)),
            (".5", Some(500_000_000)),
            ("5.", Some(5_000_000_000)),
            ("-1", Some(-1_000_000_000)),
            ("1Ki", Some(1024 * 1_000_000_000)),
            ("1.5Gi", Some(1536 * 1024 * 1024 * 1_000_000_000)),
            ("1k", Some(1_000_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("1E", Some(1_000_000_000_000_000_000 * 1_000_000_000)),
            ("100n", Some(100)),
            ("0.1n", Some(1)),
            (
                "99999999999999999999",
                Some(i128::from(i64::MAX) * 1_000_000_000),
            ),
            ("", None),
            ("abc", None),
            ("1 Gi", None),
            ("1.2.3", None),
            ("1gb", None),
            ("1e", None),
            ("1e999999999", None),
            ("--1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall_over(text in "[0-9.eE+kKmMgGiEn-]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_numbers_are_themselves(n in any::<i64>()) {
            let most = i128::from(i64::MAX) * 1_000_000_000;
            assert_eq!(parse(&n.to_string()), Some((i128::from(n) * 1_000_000_000).clamp(-most, most)));
        }
    }
}
