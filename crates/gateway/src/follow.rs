//! An execution's output as it is made, told by whichever gateway is asked.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use sandlot_api::executor::{RunEvent, RunRequest};
use serde_json::{Value, json};
use tonic::{Code, Streaming};

use crate::{executors::Executor, gateway::Gateway, ledger::Execution, wire};

/// How long the agent is asked for a run that is about to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the agent is asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// Something to tell: `stdout` and `stderr` as they come, `end` with the whole execution.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) body: Value,
}

struct Following {
    gateway: Arc<Gateway>,
    execution: Execution,
    events: Option<Streaming<RunEvent>>,
    torn: [Vec<u8>; 2],
    waiting: std::collections::VecDeque<Told>,
    over: bool,
}

/// Everything that an execution writes, from its beginning, and its end.
pub(crate) fn follow(gateway: Arc<Gateway>, execution: Execution) -> impl Stream<Item = Told> {
    let following = Following {
        gateway,
        execution,
        events: None,
        torn: Default::default(),
        waiting: Default::default(),
        over: false,
    };
    stream::unfold(following, |mut following| async {
        let told = following.next().await?;
        Some((told, following))
    })
}

impl Following {
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                return Some(told);
            }
            if self.over {
                return None;
            }
            if self.execution.status.is_over() {
                self.tell_rest();
                continue;
            }
            if self.events.is_none() {
                self.events = self.attach().await;
            }
            let event = match &mut self.events {
                Some(events) => events.message().await,
                None => Ok(None),
            };
            match event {
                Ok(Some(event)) if event.ended.is_none() => self.tell_output(&event),
                // It ended, or its agent broke off: what became of it will be noted.
                _ => self.await_end().await?,
            }
        }
    }

    /// Attaches to the run in the session's pod, once it has begun.
    async fn attach(&mut self) -> Option<Streaming<RunEvent>> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let executor = self.executor().await?;
        while tokio::time::Instant::now() < deadline {
            let request = RunRequest {
                key: self.execution.key(),
                attach_only: true,
                ..RunRequest::default()
            };
            match executor.client().run(request).await {
                Ok(events) => return Some(events.into_inner()),
                Err(status) if status.code() == Code::NotFound => {}
                Err(_) => return None,
            }
            if self.look().await.is_none() || self.execution.status.is_over() {
                return None;
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
    }

    async fn executor(&self) -> Option<Executor> {
        let gateway = &self.gateway;
        let session = gateway
            .ledger
            .session(&self.execution.session)
            .await
            .ok()??;
        let claim = &session.facts.claim;
        gateway
            .executors
            .of(&gateway.claims, claim, PATIENCE)
            .await
            .ok()
    }

    /// Looks up how it stands now.
    async fn look(&mut self) -> Option<()> {
        self.execution = self
            .gateway
            .ledger
            .execution(&self.execution.id)
            .await
            .ok()??;
        Some(())
    }

    /// Waits until its end is noted. Nothing if it is not there any more.
    async fn await_end(&mut self) -> Option<()> {
        while !self.execution.status.is_over() {
            if self.gateway.cancel.is_cancelled() {
                return None;
            }
            let over = self.gateway.over(&self.execution.id, PATIENCE).await;
            self.execution = over.ok()??;
        }
        Some(())
    }

    fn tell_output(&mut self, event: &RunEvent) {
        let streams = [("stdout", &event.stdout), ("stderr", &event.stderr)];
        for (index, (kind, bytes)) in streams.into_iter().enumerate() {
            let text = whole_text(&mut self.torn[index], bytes);
            if !text.is_empty() {
                self.waiting.push_back(Told {
                    kind,
                    body: json!({ "text": text }),
                });
            }
        }
    }

    /// The end, and before it what nobody told as it was made.
    fn tell_rest(&mut self) {
        self.over = true;
        if self.events.is_none() {
            let outcome = &self.execution.outcome;
            for (kind, text) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
                if !text.is_empty() {
                    let body = json!({ "text": text });
                    self.waiting.push_back(Told { kind, body });
                }
            }
        }
        self.waiting.push_back(Told {
            kind: "end",
            body: wire::execution(&self.execution),
        });
    }
}

/// The bytes as text; a character whose end has not come yet is kept for the next ones.
fn whole_text(torn: &mut Vec<u8>, bytes: &[u8]) -> String {
    torn.extend_from_slice(bytes);
    let whole = match std::str::from_utf8(torn) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => torn.len(),
    };
    let rest = torn.split_off(whole);
    let text = String::from_utf8_lossy(torn).into_owned();
    *torn = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_torn() {
        let mut torn = Vec::new();
        assert_eq!(whole_text(&mut torn, b"a\xc3"), "a");
        assert_eq!(whole_text(&mut torn, b"\xa4b"), "äb");
        assert_eq!(whole_text(&mut torn, b"\xff!"), "\u{fffd}!");
        assert!(torn.is_empty());
    }
}
