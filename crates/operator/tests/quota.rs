//! A namespace that may have only so many pods: the pool says that this is what it lacks.

mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};

use sandlot_api::arl::WarmPool;
use sandlot_cluster::{
    Config,
    admission::{Admission, AdmissionRequest, Chain, Denied, Operation, Warnings},
    kubelet::BoxFuture,
};
use stage::*;

/// Lets so many pods be made, and says of any other what Kubernetes says.
struct Quota(AtomicUsize);

impl Admission for Quota {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        request.operation == Operation::Create && request.is_about("", "pods")
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        let take = |left: usize| left.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Box::pin(async move {
            let full = "exceeded quota: pods, requested: pods=1, used: pods=2, limited: pods=2";
            taken
                .map(|_| Warnings::new())
                .map_err(|_| request.forbidden(full))
        })
    }
}

#[tokio::test]
async fn a_pool_that_its_namespace_has_no_room_for_names_the_quota() {
    let config = Config {
        admission: Chain::new().with(Quota(AtomicUsize::new(2))),
        ..Config::default()
    };
    let stage = Stage::over(config, |_| {}).await;
    stage.pool("p", 3).await;
    let limited = |pool: &WarmPool| {
        let ready = pool.status.as_ref().map(|status| status.ready);
        ready == Some(2) && trouble_of(pool).is_some()
    };
    let (reason, message) = trouble_of(&stage.until("p", limited).await).unwrap();
    assert_eq!(reason, "QuotaExceeded");
    assert!(message.contains("exceeded quota: pods"), "{message}");
    let told = stage.until_event("QuotaExceeded").await;
    assert!(told.contains("exceeded quota: pods"), "{told}");
}
