//! TokenReview: whose a token is, for those who are shown tokens.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Tokens;
use crate::access::answered;
use crate::status::ApiError;

impl Tokens {
    /// Answers a TokenReview in its status.
    pub fn review(&self, review: Value, now: Timestamp) -> Result<Value, ApiError> {
        let token = review["spec"]["token"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let asked = review["spec"]["audiences"].as_array();
        let asked: Vec<String> = asked
            .into_iter()
            .flatten()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        let audiences = if asked.is_empty() {
            self.own_audience()
        } else {
            asked
        };
        let status = match self.check(&token, &audiences, now) {
            Some(good) => json!({
                "authenticated": true, "user": good.user.to_value(), "audiences": good.audiences,
            }),
            None => json!({"error": "invalid bearer token", "user": {}}),
        };
        Ok(answered(review, status))
    }
}
