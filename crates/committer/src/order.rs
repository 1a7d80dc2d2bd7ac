//! What a committer is told: by its arguments what to do, by its environment where.

use std::path::PathBuf;

/// The pod whose containers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// A pod of the same name that came later is another.
    pub(crate) uid: Option<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Save these containers, each as the image named beside it.
    Commit {
        pod: Pod,
        containers: Vec<(String, String)>,
    },
    /// Let these containers go on.
    Unpause { pod: Pod, containers: Vec<String> },
}

/// Arguments that make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// Too few of them.
    #[error(
        "usage: image-committer POD NAMESPACE CONTAINER:IMAGE…, or image-committer unpause POD NAMESPACE CONTAINER…"
    )]
    Usage,
    /// One that is no container with its image.
    #[error("{0:?} is not of the form CONTAINER:IMAGE")]
    Container(String),
}

impl Order {
    /// Reads the arguments after the program's name.
    pub(crate) fn read(arguments: Vec<String>, uid: Option<String>) -> Result<Self, BadOrder> {
        let mut arguments = arguments.into_iter().peekable();
        let unpause = arguments.next_if(|first| first == "unpause").is_some();
        let (Some(name), Some(namespace)) = (arguments.next(), arguments.next()) else {
            return Err(BadOrder::Usage);
        };
        if name.is_empty() || namespace.is_empty() || arguments.peek().is_none() {
            return Err(BadOrder::Usage);
        }
        let uid = uid.map(|uid| uid.trim().to_owned());
        let pod = Pod {
            name,
            namespace,
            uid: uid.filter(|uid| !uid.is_empty()),
        };
        if unpause {
            let containers = arguments.collect();
            return Ok(Self::Unpause { pod, containers });
        }
        let containers = arguments.map(|text| match text.split_once(':') {
            Some((container, image)) if !container.is_empty() && !image.is_empty() => {
                Ok((container.to_owned(), image.to_owned()))
            }
            _ => Err(BadOrder::Container(text)),
        });
        Ok(Self::Commit {
            pod,
            containers: containers.collect::<Result<_, _>>()?,
        })
    }
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Where containerd listens.
    pub(crate) socket: PathBuf,
    /// Containerd's own namespace that the kubelet's containers are in.
    pub(crate) namespace: String,
    /// Logins for registries, in the form of Docker's `config.json`.
    pub(crate) logins: PathBuf,
    /// Whether the registry is spoken to without TLS.
    pub(crate) plain: bool,
    /// What is written here becomes the container's termination message.
    pub(crate) last_words: PathBuf,
}

impl Surroundings {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name, default: &str| {
            let text = variable(name).map(|text| text.trim().to_owned());
            text.filter(|text| !text.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        Self {
            socket: set("CONTAINERD_SOCKET", "/run/containerd/containerd.sock").into(),
            namespace: set("CONTAINERD_NAMESPACE", "k8s.io"),
            logins: set(
                "REGISTRY_LOGINS",
                "/var/run/opensandbox/registry/config.json",
            )
            .into(),
            plain: matches!(
                set("SNAPSHOT_REGISTRY_INSECURE", "false").as_str(),
                "1" | "t" | "T" | "true" | "TRUE" | "True"
            ),
            last_words: set("TERMINATION_LOG", "/dev/termination-log").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Order, BadOrder> {
        let arguments = text.split_whitespace().map(str::to_owned);
        Order::read(arguments.collect(), Some(" u ".to_owned()))
    }

    fn pod() -> Pod {
        Pod {
            name: "p".to_owned(),
            namespace: "ns".to_owned(),
            uid: Some("u".to_owned()),
        }
    }

    #[test]
    fn what_the_job_says_is_understood() {
        let containers = vec![
            ("one".to_owned(), "r.example:5000/x/one:1".to_owned()),
            ("two".to_owned(), "r.example/two:1".to_owned()),
        ];
        assert_eq!(
            read("p ns one:r.example:5000/x/one:1 two:r.example/two:1"),
            Ok(Order::Commit {
                pod: pod(),
                containers
            })
        );
        assert_eq!(
            read("unpause p ns one two"),
            Ok(Order::Unpause {
                pod: pod(),
                containers: vec!["one".to_owned(), "two".to_owned()]
            })
        );
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for text in ["", "p", "p ns", "unpause p ns", "unpause p"] {
            assert_eq!(read(text), Err(BadOrder::Usage), "{text}");
        }
        for text in ["p ns one", "p ns :image", "p ns one:"] {
            assert!(matches!(read(text), Err(BadOrder::Container(_))), "{text}");
        }
    }

    #[test]
    fn without_a_word_it_looks_where_clusters_have_things() {
        let around = Surroundings::read(|_| None);
        assert_eq!(
            around.socket.to_str(),
            Some("/run/containerd/containerd.sock")
        );
        assert_eq!((around.namespace.as_str(), around.plain), ("k8s.io", false));
        let plain = Surroundings::read(|name| {
            (name == "SNAPSHOT_REGISTRY_INSECURE").then(|| "true".to_owned())
        });
        assert!(plain.plain);
    }
}
