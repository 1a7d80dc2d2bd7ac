use serde_json::{Value, json};

use super::*;

fn crd(kind: &str) -> Value {
    let crd = crate::crds()
        .into_iter()
        .find(|crd| crd.spec.group == names::GROUP && crd.spec.names.kind == kind);
    serde_json::to_value(crd.unwrap()).unwrap()
}

#[test]
fn the_kinds_have_the_published_names() {
    for (kind, plural, short) in [
        ("Robot", "robots", "rb"),
        ("Job", "jobs", "rjob"),
        ("TaskGroup", "taskgroups", "rtg"),
        ("Task", "tasks", "rtask"),
        ("Command", "commands", "rcmd"),
        ("RobotDeployment", "robotdeployments", "rdeploy"),
    ] {
        let names = &crd(kind)["spec"]["names"];
        assert_eq!(names["plural"], plural);
        assert_eq!(names["shortNames"], json!([short]));
    }
}

#[test]
fn the_columns_are_the_published_ones() {
    let columns = |kind| -> Vec<String> {
        let crd = crd(kind);
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
        columns
            .unwrap()
            .iter()
            .filter(|column| column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        columns("Robot"),
        [
            "RobotID",
            "Phase",
            "Hostname",
            "OS",
            "CPUs",
            "LastHeartbeat",
            "Age"
        ]
    );
    assert_eq!(
        columns("Job"),
        [
            "Type",
            "State",
            "Total",
            "Succeeded",
            "Failed",
            "Running",
            "Age"
        ]
    );
    assert_eq!(
        columns("TaskGroup"),
        [
            "Job",
            "State",
            "Total",
            "Running",
            "Succeeded",
            "Failed",
            "Age"
        ]
    );
    assert_eq!(
        columns("Task"),
        [
            "Job", "Robot", "Driver", "State", "ExitCode", "Restarts", "Age"
        ]
    );
}

#[test]
fn both_spellings_of_a_constraint_are_read() {
    let job: Constraint = serde_json::from_value(
        json!({ "lTarget": "${attr.kernel.name}", "rTarget": "linux", "operand": "=" }),
    )
    .unwrap();
    let task: Constraint = serde_json::from_value(
        json!({ "ltarget": "${attr.kernel.name}", "rtarget": "linux", "operand": "=" }),
    )
    .unwrap();
    assert_eq!((job.left(), job.right()), (task.left(), task.right()));
    assert_eq!(job.operand, Some(Operand::Equal));
}
