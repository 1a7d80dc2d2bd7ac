//! How many requests the API has answered, read from its own metrics.

use std::collections::HashMap;

use anyhow::Result;
use kube::Client;

/// Requests so far, by resource and verb.
pub(super) struct Requests(HashMap<(String, String), f64>);

/// Asks the API.
pub(super) async fn count(client: &Client) -> Result<Requests> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    Ok(Requests::parse(&client.request_text(request).await?))
}

impl Requests {
    fn parse(metrics: &str) -> Requests {
        let mut counts = HashMap::new();
        for line in metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
        {
            let Some((labels, value)) = line.rsplit_once("} ") else {
                continue;
            };
            let (Some(resource), Some(verb)) = (label(labels, "resource"), label(labels, "verb"))
            else {
                continue;
            };
            let value: f64 = value.trim().parse().unwrap_or_default();
            *counts
                .entry((resource, verb.to_ascii_lowercase()))
                .or_default() += value;
        }
        Requests(counts)
    }

    /// Requests since an earlier count, of these resources and verbs.
    pub(super) fn since(&self, before: &Requests, resources: &[&str], verbs: &[&str]) -> f64 {
        let wanted = |(resource, verb): &(String, String)| {
            resources.contains(&resource.as_str()) && verbs.contains(&verb.as_str())
        };
        let sum = |counts: &HashMap<(String, String), f64>| -> f64 {
            counts
                .iter()
                .filter(|(key, _)| wanted(key))
                .map(|(_, count)| count)
                .sum()
        };
        sum(&self.0) - sum(&before.0)
    }
}

fn label(labels: &str, name: &str) -> Option<String> {
    let rest = labels.split_once(&format!("{name}=\""))?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_resource_and_verb() {
        let before = Requests::parse("");
        let after = Requests::parse(
            "# TYPE apiserver_request counter\n\
             apiserver_request_total{verb=\"PATCH\",resource=\"pods\",code=\"200\"} 3\n\
             apiserver_request_total{verb=\"PATCH\",resource=\"pods\",code=\"409\"} 1\n\
             apiserver_request_total{verb=\"GET\",resource=\"pods\",code=\"200\"} 9\n",
        );
        assert_eq!(after.since(&before, &["pods"], &["patch"]), 4.0);
    }
}
