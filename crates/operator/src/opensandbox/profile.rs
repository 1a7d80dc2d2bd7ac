//! How pools are chosen for batches that leave the choice open, as a ConfigMap says.
//!
//! The ConfigMap `pool-assign-profiles` of the operator's namespace has a JSON list under
//! `profiles`; the one named `default` counts. Without it, the choice is as usual.

use k8s_openapi::api::core::v1::ConfigMap;
use sandlot_decide::batch::{Predicate, Preference, Profile};
use serde::Deserialize;
use serde_json::Value;

/// The ConfigMap.
pub(super) const CONFIG_MAP: &str = "pool-assign-profiles";
/// The key in it.
const KEY: &str = "profiles";
/// The profile that counts.
const NAME: &str = "default";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    #[serde(default)]
    plugins: Plugins,
    #[serde(default)]
    plugin_conf: Vec<PluginConf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plugins {
    predicate: Vec<Named>,
    score: Vec<Named>,
}

/// A plugin: its name alone, or with what it counts.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
struct Named {
    name: String,
    weight: i64,
}

impl From<Value> for Named {
    fn from(written: Value) -> Self {
        let name = written.as_str().or(written["name"].as_str());
        Self {
            name: name.unwrap_or_default().to_lowercase(),
            weight: written["weight"].as_i64().unwrap_or(1),
        }
    }
}

#[derive(Debug, Deserialize)]
struct PluginConf {
    name: String,
    #[serde(default)]
    args: Value,
}

/// Reads the profile that counts; why that cannot be done otherwise.
pub(super) fn read(map: &ConfigMap) -> Result<Profile, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    let Some(text) = text else {
        return Ok(Profile::default());
    };
    let bad = |why: String| format!("ConfigMap {CONFIG_MAP}, key {KEY}: {why}");
    let profiles: Vec<Written> =
        serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    match profiles.into_iter().find(|profile| profile.name == NAME) {
        Some(written) => profile(&written).map_err(bad),
        None => Ok(Profile::default()),
    }
}

fn profile(written: &Written) -> Result<Profile, String> {
    let args = |plugin: &str| {
        let conf = written.plugin_conf.iter();
        conf.into_iter()
            .find(|conf| conf.name.eq_ignore_ascii_case(plugin))
            .map_or(&Value::Null, |conf| &conf.args)
    };
    let predicates = written.plugins.predicate.iter().map(|plugin| {
        Ok(match plugin.name.as_str() {
            "image" => Predicate::Image,
            "resource" => Predicate::Resource,
            "nodeselector" => Predicate::NodeSelector,
            "labelselector" => Predicate::SameLabels,
            other => return Err(format!("there is no predicate {other:?}")),
        })
    });
    let mut preference = Preference::ByName;
    for plugin in written
        .plugins
        .score
        .iter()
        .filter(|plugin| plugin.weight > 0)
    {
        preference = match (
            plugin.name.as_str(),
            args("resbalance")["strategy"].as_str(),
        ) {
            ("resbalance", None | Some("LeastAllocated")) => Preference::LeastAllocated,
            ("resbalance", Some("MostAllocated")) => Preference::MostAllocated,
            ("resbalance", Some(other)) => return Err(format!("there is no strategy {other:?}")),
            (other, _) => return Err(format!("there is no score {other:?}")),
        };
    }
    let keys = args("labelselector")["keys"].as_array();
    Ok(Profile {
        predicates: predicates.collect::<Result<_, _>>()?,
        same_labels: keys
            .into_iter()
            .flatten()
            .filter_map(|key| Some(key.as_str()?.to_owned()))
            .collect(),
        preference,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_text(profiles: &Value) -> Result<Profile, String> {
        let map = json!({ "data": { "profiles": profiles.to_string() } });
        read(&serde_json::from_value(map).unwrap())
    }

    #[test]
    fn the_default_profile_is_read_with_what_its_plugins_are_told() {
        let read = read_text(&json!([
            { "name": "other", "plugins": { "predicate": ["nonsense"] } },
            { "name": "default",
              "plugins": { "predicate": ["image", { "name": "labelselector" }],
                           "score": [{ "name": "resbalance", "weight": 100 }] },
              "pluginConf": [{ "name": "resbalance", "args": { "strategy": "MostAllocated" } },
                             { "name": "labelselector", "args": { "keys": ["team"] } }] },
        ]));
        let wanted = Profile {
            predicates: [Predicate::Image, Predicate::SameLabels].into(),
            same_labels: vec!["team".to_owned()],
            preference: Preference::MostAllocated,
        };
        assert_eq!(read, Ok(wanted));
    }

    #[test]
    fn without_a_profile_the_choice_is_as_usual_and_a_wrong_one_is_said() {
        assert_eq!(read(&ConfigMap::default()), Ok(Profile::default()));
        assert_eq!(read_text(&json!([])), Ok(Profile::default()));
        let wrong =
            read_text(&json!([{ "name": "default", "plugins": { "predicate": ["luck"] } }]));
        assert!(wrong.unwrap_err().contains("luck"));
    }
}
