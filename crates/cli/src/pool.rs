//! `sandlot pool`: warm pools, and the pool that `sandlot run --image` makes for an image.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use sandlot_api::arl::{PodTemplate, WarmPool, WarmPoolSpec};
use serde_json::{Map, Value, json};

use crate::{
    args::{self, List, Output},
    process::EXECUTOR,
    progress::Progress,
    show, table, target,
};

/// How long a new pool may take to be warm.
const PATIENCE: Duration = Duration::from_secs(300);

/// Does what was asked.
pub(crate) async fn run(command: &args::Pool) -> Result<()> {
    match command {
        args::Pool::Create {
            target,
            name,
            image,
            replicas,
            output,
        } => {
            let (client, namespace) = target::connect(target).await?;
            let pools: Api<WarmPool> = Api::namespaced(client, &namespace);
            let made = pools
                .create(&PostParams::default(), &warm_pool(name, image, *replicas))
                .await;
            made.with_context(|| format!("cannot make pool {name}"))?;
            let pool = warm(&pools, name).await?;
            say(
                *output,
                &pool,
                &format!("pool {name} keeps {replicas} warm"),
            )?;
        }
        args::Pool::List(options) => list(options).await?,
        args::Pool::Scale {
            target,
            name,
            replicas,
            output,
        } => {
            let (client, namespace) = target::connect(target).await?;
            let pools: Api<WarmPool> = Api::namespaced(client, &namespace);
            let change = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
            let pool = pools.patch(name, &PatchParams::default(), &change).await?;
            let words = format!("pool {name} keeps {replicas} warm from now on");
            say(*output, &pool, &words)?;
        }
        args::Pool::Delete { target, name } => {
            let (client, namespace) = target::connect(target).await?;
            let pools: Api<WarmPool> = Api::namespaced(client, &namespace);
            pools.delete(name, &DeleteParams::default()).await?;
            show::line(&format!("pool {name} is being deleted"))?;
        }
    }
    Ok(())
}

/// Words for people, the object for scripts.
fn say(output: Output, pool: &WarmPool, words: &str) -> Result<()> {
    match output {
        Output::Text => show::line(words),
        Output::Json => show::json(pool),
    }
}

async fn list(options: &List) -> Result<()> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pools: Api<WarmPool> = Api::namespaced(client, &namespace);
    let pools = pools.list(&ListParams::default()).await?.items;
    table::print(
        options.output,
        &["NAME", "WARM", "WANTED", "IN USE", "PHASE"],
        &pools,
        |pool| {
            let status = pool.status.clone().unwrap_or_default();
            vec![
                pool.metadata.name.clone().unwrap_or_default(),
                status.ready.to_string(),
                pool.spec.replicas.to_string(),
                status.allocated.to_string(),
                status
                    .phase
                    .map(|phase| format!("{phase:?}"))
                    .unwrap_or_default(),
            ]
        },
    )
}

/// The pool that keeps this image warm, made if it is not there.
pub(crate) async fn for_image(client: &Client, namespace: &str, image: &str) -> Result<String> {
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), namespace);
    let name = name_for(image);
    if pools.get_opt(&name).await?.is_none() {
        eprintln!("making pool {name} for image {image}; `sandlot pool delete {name}` removes it");
        let made = pools
            .create(&PostParams::default(), &warm_pool(&name, image, 1))
            .await;
        match made {
            Ok(_) => {}
            // Somebody else ran the same image at the same moment.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(name)
}

/// A pool name that shows the image and is the same for the same image.
fn name_for(image: &str) -> String {
    let slug: String = image
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let start = slug.len().saturating_sub(36);
    let hash = image.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!(
        "image-{}-{:08x}",
        slug[start..].trim_matches('-'),
        hash as u32
    )
}

fn warm_pool(name: &str, image: &str, replicas: u16) -> WarmPool {
    let template = json!({ "spec": {
        "containers": [{
            "name": EXECUTOR,
            "image": image,
            "command": ["sleep", "infinity"],
            "volumeMounts": [{ "name": "workspace", "mountPath": "/workspace" }],
        }],
        "volumes": [{ "name": "workspace", "emptyDir": {} }],
    }});
    let template: Map<String, Value> = match template {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    WarmPool {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: WarmPoolSpec {
            replicas: i32::from(replicas),
            template: PodTemplate(template),
            recycle: None,
        },
        status: None,
    }
}

async fn warm(pools: &Api<WarmPool>, name: &str) -> Result<WarmPool> {
    let mut progress = Progress::new();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let waiting = async {
        let mut states = std::pin::pin!(watcher(pools.clone(), config).applied_objects());
        while let Some(pool) = states.try_next().await? {
            let status = pool.status.clone().unwrap_or_default();
            if pool.status.is_some() && status.ready >= pool.spec.replicas {
                return Ok(pool);
            }
            let trouble = status.conditions.iter().flatten();
            let trouble = trouble
                .filter(|condition| condition.status == "False")
                .find(|condition| !condition.message.is_empty());
            progress.say(&match trouble {
                Some(condition) => condition.message.clone(),
                None => format!("{} of {} pods are warm", status.ready, pool.spec.replicas),
            });
        }
        bail!("the watch on pool {name} ended")
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(done) => done,
        Err(_) => bail!(
            "pool {name} was not warm after {} s; `kubectl describe warmpool {name}` says why",
            PATIENCE.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_has_the_same_pool_and_another_has_another() {
        let name = name_for("registry.example.com/team/python:3.9-slim");
        assert_eq!(name, name_for("registry.example.com/team/python:3.9-slim"));
        assert_ne!(name, name_for("registry.example.com/team/python:3.10-slim"));
        assert!(
            name.len() <= 63 && name.ends_with(|c: char| c.is_ascii_alphanumeric()),
            "{name}"
        );
        assert!(name_for("host").starts_with("image-host-"));
    }
}
