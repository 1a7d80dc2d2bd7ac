//! Rules for Sandboxes.

use serde_json::Value;

use super::{Findings, given};

pub(super) fn check(sandbox: &Value, old: Option<&Value>, findings: &mut Findings) {
    let spec = &sandbox["spec"];
    findings.reference(spec, "poolRef", "the WarmPool to claim a pod from");
    for field in [
        "ttlSecondsAfterFinished",
        "idleTimeoutSeconds",
        "maxLifetimeSeconds",
    ] {
        findings.not_negative(spec, field);
    }
    if let (Some(ttl), Some(idle)) = (
        given(spec, "ttlSecondsAfterFinished"),
        given(spec, "idleTimeoutSeconds"),
    ) && ttl != idle
    {
        findings.warn(format!(
            "spec.ttlSecondsAfterFinished ({ttl}) and spec.idleTimeoutSeconds ({idle}) mean the same: the first one counts"
        ));
    }
    let Some(old) = old else { return };
    let has_pod = given(&old["status"], "podName").is_some();
    if has_pod && old["spec"]["poolRef"] != spec["poolRef"] {
        let was = &old["spec"]["poolRef"];
        findings.fault(
            "spec.poolRef",
            format!("this sandbox has its pod from {was} already: make a new sandbox to use another pool"),
        );
    }
}
