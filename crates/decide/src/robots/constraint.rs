//! What a job may ask of a robot: labels it has, conditions that its facts meet.

use std::{cmp::Ordering, collections::BTreeMap};

use regex::RegexBuilder;
use sandlot_api::robot::{Constraint, DeviceInfo, Operand};

/// The most memory a regular expression of a user's may take.
const REGEX_LIMIT: usize = 1 << 20;

/// The facts of a robot, by the names that constraints look them up under.
pub type Attributes = BTreeMap<String, String>;

/// What there is to say of a robot.
pub fn attributes(
    name: &str,
    labels: &BTreeMap<String, String>,
    drivers: &[String],
    device: Option<&DeviceInfo>,
) -> Attributes {
    let mut facts = Attributes::new();
    facts.insert("robot.name".to_owned(), name.to_owned());
    for (label, value) in labels {
        facts.insert(format!("label.{label}"), value.clone());
        facts.insert(format!("meta.{label}"), value.clone());
    }
    for driver in drivers {
        facts.insert(format!("attr.driver.{driver}"), "1".to_owned());
    }
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            facts.insert(name.to_owned(), value.to_owned());
        }
    };
    let Some(device) = device else { return facts };
    set(
        "attr.unique.hostname",
        device.hostname.as_deref().unwrap_or(""),
    );
    if let Some(platform) = &device.platform {
        set("attr.kernel.name", &platform.os);
        set("attr.kernel.version", &platform.kernel_version);
        set("attr.kernel.arch", &platform.kernel_arch);
        set("attr.cpu.arch", &platform.arch);
        set("attr.os.name", &platform.platform);
        set("attr.os.version", &platform.platform_version);
    }
    if let Some(cpu) = &device.cpu {
        set("attr.cpu.numcores", &cpu.logical_cores.to_string());
        set("attr.cpu.modelname", &cpu.model_name);
    }
    if let Some(memory) = &device.memory {
        set("attr.memory.totalbytes", &memory.total.to_string());
    }
    facts
}

/// Whether a robot has all labels that are asked for.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(label, value)| labels.get(label) == Some(value))
}

/// Whether a robot's facts meet a constraint. One that makes no sense is met by nobody.
pub fn meets(constraint: &Constraint, facts: &Attributes) -> bool {
    let left = resolve(constraint.left(), facts);
    let right = resolve(constraint.right(), facts);
    let operand = constraint.operand.unwrap_or_default();
    let (Some(left), Some(right)) = (&left, &right) else {
        // What a robot does not have is different from everything.
        return operand == Operand::NotEqual && (left.is_some() || right.is_some());
    };
    match operand {
        Operand::Equal => left == right,
        Operand::NotEqual => left != right,
        Operand::Greater => compare(left, right).is_gt(),
        Operand::AtLeast => compare(left, right).is_ge(),
        Operand::Less => compare(left, right).is_lt(),
        Operand::AtMost => compare(left, right).is_le(),
        Operand::Regexp => RegexBuilder::new(right)
            .size_limit(REGEX_LIMIT)
            .build()
            .is_ok_and(|regex| regex.is_match(left)),
        Operand::SetContains => {
            let items = |list: &str| -> Vec<String> {
                list.split(',').map(|item| item.trim().to_owned()).collect()
            };
            let has = items(left);
            items(right).iter().all(|item| has.contains(item))
        }
        Operand::Version => right
            .split(',')
            .all(|part| version_meets(left, part.trim())),
    }
}

/// A text with `${…}` replaced by the robot's facts; nothing if the robot lacks one.
fn resolve(text: &str, facts: &Attributes) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..].find('}')? + start;
        out.push_str(&rest[..start]);
        out.push_str(facts.get(rest[start + 2..end].trim())?);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

/// Numbers by their size, other texts by their letters.
fn compare(left: &str, right: &str) -> Ordering {
    match (left.trim().parse::<f64>(), right.trim().parse::<f64>()) {
        (Ok(left), Ok(right)) => left.total_cmp(&right),
        _ => left.cmp(right),
    }
}

/// Whether a version meets one part of a requirement, such as `>= 1.2`.
fn version_meets(version: &str, part: &str) -> bool {
    let end = part
        .find(|c: char| !matches!(c, '<' | '>' | '=' | '!' | '~'))
        .unwrap_or(part.len());
    let (operator, wanted) = (&part[..end], part[end..].trim());
    let (Some(have), Some(want)) = (numbers(version), numbers(wanted)) else {
        return false;
    };
    let order = order(&have, &want);
    match operator {
        "" | "=" => order.is_eq(),
        "!=" => order.is_ne(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        // `~> 1.2` is 1.2 or later, before 2; `~> 1.2.3` before 1.3.
        "~>" => {
            let fixed = want.len().saturating_sub(1).max(1);
            order.is_ge() && have.iter().take(fixed).eq(want.iter().take(fixed))
        }
        _ => false,
    }
}

/// The numbers a version starts with: `5.10.0-28-amd64` is 5, 10, 0.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.trim().trim_start_matches('v');
    let end = version
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(version.len());
    let numbers: Option<Vec<u64>> = version[..end]
        .trim_end_matches('.')
        .split('.')
        .map(|number| number.parse().ok())
        .collect();
    numbers
}

fn order(left: &[u64], right: &[u64]) -> Ordering {
    let at = |list: &[u64], index: usize| list.get(index).copied().unwrap_or(0);
    (0..left.len().max(right.len()))
        .map(|index| at(left, index).cmp(&at(right, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
