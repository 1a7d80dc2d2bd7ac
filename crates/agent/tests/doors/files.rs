//! UpdateFiles.

use std::collections::HashMap;

use sandlot_api::agent::{FileRequest, FileResponse};

use crate::Agent;

async fn update(agent: &Agent, request: FileRequest) -> FileResponse {
    agent
        .client()
        .await
        .update_files(request)
        .await
        .unwrap()
        .into_inner()
}

fn file(path: &str, content: &str) -> FileRequest {
    FileRequest {
        files: HashMap::from([(path.to_owned(), content.to_owned())]),
        ..FileRequest::default()
    }
}

#[tokio::test]
async fn files_blobs_and_diffs_land_in_the_workspace() {
    let agent = Agent::sidecar();
    let mut request = file("a/text", "one\n");
    request
        .blobs
        .insert("blob".to_owned(), b"\xff\0"[..].into());
    assert!(update(&agent, request).await.success);
    let patch = "--- a/a/text\n+++ b/a/text\n@@ -1 +1 @@\n-one\n+two\n".to_owned();
    let answer = update(
        &agent,
        FileRequest {
            patch,
            ..FileRequest::default()
        },
    )
    .await;
    assert!(answer.success, "{}", answer.message);
    assert_eq!(agent.read("workspace/a/text"), "two\n");
    assert_eq!(
        std::fs::read(agent.path("workspace/blob")).unwrap(),
        b"\xff\0"
    );
}

#[tokio::test]
async fn a_refusal_is_an_answer_with_words() {
    let agent = Agent::sidecar();
    let answer = update(&agent, file("../outside", "x")).await;
    assert!(
        !answer.success && answer.message.contains("leads out of"),
        "{}",
        answer.message
    );
    let records = agent.path("state/answers").display().to_string();
    assert!(
        !update(&agent, file(&records, "forged")).await.success,
        "the agent's own records are its own"
    );
}

#[tokio::test]
async fn the_same_key_writes_once_even_after_a_crash() {
    let mut agent = Agent::sidecar();
    let request = FileRequest {
        key: "task/0".into(),
        ..file("state", "first")
    };
    let answer = update(&agent, request.clone()).await;
    std::fs::write(
        agent.path("workspace/state"),
        "what a later step made of it",
    )
    .unwrap();
    assert_eq!(update(&agent, request.clone()).await, answer);
    agent.kill();
    agent.start_again();
    assert_eq!(update(&agent, request).await, answer);
    assert_eq!(
        agent.read("workspace/state"),
        "what a later step made of it"
    );
}
