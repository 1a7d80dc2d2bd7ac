//! The documents that describe an image: index, manifest and configuration.
//!
//! Only what is needed is read; both spellings of the media types (OCI's and Docker's) are
//! taken, because registries hold both.

use serde::{Deserialize, Serialize};

use super::ImageConfig;
use super::reference::Digest;

/// What a registry may answer when asked for a manifest.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// What we write ourselves.
pub(crate) const MANIFEST: &str = MANIFEST_TYPES[1];
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Docker allows 127; a kernel takes some hundreds.
const MOST_LAYERS: usize = 127;
/// No platform of an index is looked for behind so many others.
const MOST_PLATFORMS: usize = 1000;

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadManifest {
    #[error("the {0} is not readable: {1}")]
    Unreadable(&'static str, String),
    #[error(
        "the manifest is of the old schema 1, which is not supported; push the image again with a newer tool"
    )]
    Old,
    #[error("no image for {wanted} in the index, which has {there}")]
    Platform { wanted: String, there: String },
    #[error("this is not an image but an artifact of type {0:?}")]
    Artifact(String),
    #[error("the image has {0} layers; {MOST_LAYERS} are the most")]
    Layers(usize),
    #[error("the configuration names {diffs} layers but the manifest {layers}")]
    Mismatch { diffs: usize, layers: usize },
    #[error("a layer is of type {0:?}, which is not supported")]
    LayerType(String),
    #[error("the image is for {0}, this machine is {1}")]
    WrongPlatform(String, String),
}

/// Points to a document or a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// What kind of machine an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub(crate) fn here() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    fn words(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }

    /// Whether an image for `other` runs on a machine of this kind, and how well.
    fn fit(&self, other: &Platform) -> Option<u8> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        match (&other.variant, &self.variant) {
            (None, _) => Some(1),
            (Some(theirs), Some(ours)) if theirs == ours => Some(2),
            // `amd64/v2` and higher ask for more than is known of this machine.
            (Some(theirs), None) if theirs == "v1" => Some(2),
            _ => None,
        }
    }
}

/// What a manifest's name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// One image for each platform.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Manifest),
}

/// One image: its configuration and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Any {
    #[serde(default)]
    schema_version: u32,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Reads a manifest or an index.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, BadManifest> {
    let any: Any = serde_json::from_slice(bytes)
        .map_err(|error| BadManifest::Unreadable("manifest", error.to_string()))?;
    if any.schema_version == 1 {
        return Err(BadManifest::Old);
    }
    match (any.manifests, any.config, any.layers) {
        (Some(manifests), ..) => Ok(Document::Index(manifests)),
        (None, Some(config), Some(layers)) => {
            if layers.len() > MOST_LAYERS {
                return Err(BadManifest::Layers(layers.len()));
            }
            let is_config = config.media_type.is_empty()
                || config.media_type == CONFIG
                || config.media_type == "application/vnd.docker.container.image.v1+json";
            if !is_config {
                return Err(BadManifest::Artifact(config.media_type));
            }
            if let Some(odd) = layers
                .iter()
                .find(|layer| layer.media_type.ends_with("+encrypted"))
            {
                return Err(BadManifest::LayerType(odd.media_type.clone()));
            }
            Ok(Document::Image(Manifest {
                schema_version: 2,
                media_type: MANIFEST.to_owned(),
                config,
                layers,
            }))
        }
        _ => Err(BadManifest::Unreadable(
            "manifest",
            "it has neither layers nor manifests".to_owned(),
        )),
    }
}

/// The image of an index that this machine can run.
pub(crate) fn choose(manifests: &[Descriptor], here: &Platform) -> Result<Descriptor, BadManifest> {
    let candidates = manifests.iter().take(MOST_PLATFORMS);
    let fitting = candidates.clone().filter_map(|one| {
        // Without a platform it is anybody's guess; the configuration will tell.
        let fit = one
            .platform
            .as_ref()
            .map_or(Some(0), |platform| here.fit(platform))?;
        Some((fit, one))
    });
    // The first of the best.
    let best = fitting.fold(None, |best: Option<(u8, &Descriptor)>, one| match best {
        Some(best) if best.0 >= one.0 => Some(best),
        _ => Some(one),
    });
    best.map(|(_, found)| found.clone()).ok_or_else(|| {
        let there: Vec<String> = candidates
            .filter_map(|one| one.platform.as_ref().map(Platform::words))
            .filter(|words| !words.starts_with("unknown"))
            .take(20)
            .collect();
        BadManifest::Platform {
            wanted: here.words(),
            there: if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            },
        }
    })
}

/// An image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) config: Option<Run>,
    pub(crate) rootfs: RootFs,
}

/// How it wants to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Run {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
}

/// The layers by what they hold when they are unpacked, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

impl Configuration {
    /// Reads the configuration that goes with so many layers, for this machine.
    pub(crate) fn read(bytes: &[u8], layers: usize, here: &Platform) -> Result<Self, BadManifest> {
        let read: Configuration = serde_json::from_slice(bytes)
            .map_err(|error| BadManifest::Unreadable("configuration", error.to_string()))?;
        let diffs = read.rootfs.diff_ids.len();
        if diffs != layers {
            return Err(BadManifest::Mismatch { diffs, layers });
        }
        let theirs = Platform {
            architecture: read.architecture.clone(),
            os: read.os.clone(),
            variant: None,
        };
        let known = !theirs.architecture.is_empty() && !theirs.os.is_empty();
        if known && (theirs.os != here.os || theirs.architecture != here.architecture) {
            return Err(BadManifest::WrongPlatform(theirs.words(), here.words()));
        }
        Ok(read)
    }

    /// What a container of it is started with.
    pub(crate) fn image_config(&self) -> ImageConfig {
        let run = self.config.clone().unwrap_or_default();
        let env = run.env.unwrap_or_default();
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        ImageConfig {
            env: env.into_iter().map(pair).collect(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
        }
    }

    /// The configuration that says this.
    pub(crate) fn of(config: &ImageConfig, diff_ids: Vec<Digest>) -> Configuration {
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let env: Vec<String> = config
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let volumes = config.volumes.iter();
        let Platform {
            architecture, os, ..
        } = Platform::here();
        Configuration {
            architecture,
            os,
            created: None,
            config: Some(Run {
                user: text(&config.user),
                env: list(&env),
                entrypoint: list(&config.entrypoint),
                cmd: list(&config.cmd),
                working_dir: text(&config.working_dir),
                volumes: (!config.volumes.is_empty()).then(|| {
                    volumes
                        .map(|path| (path.clone(), serde_json::json!({})))
                        .collect()
                }),
                stop_signal: config.stop_signal.clone(),
            }),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>, mark: char) -> Descriptor {
        Descriptor {
            media_type: MANIFEST.to_owned(),
            digest: format!("sha256:{}", mark.to_string().repeat(64))
                .parse()
                .unwrap(),
            size: 1,
            platform: Some(Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: variant.map(str::to_owned),
            }),
            annotations: None,
        }
    }

    #[test]
    fn the_image_for_this_kind_of_machine_is_chosen() {
        let index = [
            entry("unknown", "unknown", None, '0'),
            entry("linux", "arm64", Some("v8"), '1'),
            entry("linux", "amd64", Some("v3"), '2'),
            entry("linux", "amd64", None, '3'),
            entry("windows", "amd64", None, '4'),
        ];
        let machine = |architecture: &str, variant: Option<&str>| Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        };
        let chosen = choose(&index, &machine("amd64", None)).unwrap();
        assert!(chosen.digest.hex().starts_with('3'));
        let chosen = choose(&index, &machine("arm64", Some("v8"))).unwrap();
        assert!(chosen.digest.hex().starts_with('1'));
        let none = choose(&index, &machine("riscv64", None))
            .unwrap_err()
            .to_string();
        assert!(
            none.contains("linux/riscv64") && none.contains("linux/amd64"),
            "{none}"
        );
    }

    #[test]
    fn documents_that_are_no_images_are_refused_with_the_reason() {
        let old = br#"{"schemaVersion":1,"name":"x"}"#;
        assert_eq!(read(old), Err(BadManifest::Old));
        let digest = format!("sha256:{}", "0".repeat(64));
        let chart = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{digest}","size":1}},"layers":[]}}"#
        );
        assert!(matches!(
            read(chart.as_bytes()),
            Err(BadManifest::Artifact(_))
        ));
        let layer = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let many = vec![layer; 200].join(",");
        let tall = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[{many}]}}"#
        );
        assert_eq!(read(tall.as_bytes()), Err(BadManifest::Layers(200)));
        assert!(matches!(read(b"[]"), Err(BadManifest::Unreadable(..))));
    }

    #[test]
    fn what_a_configuration_says_survives_being_written_again() {
        let text = br#"{"architecture":"","os":"","config":{"User":"app:staff","Env":["A=b=c","D"],
            "Entrypoint":["/e"],"Cmd":["x"],"WorkingDir":"/w","StopSignal":"SIGINT","Volumes":{"/data":{}}},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let read = Configuration::read(text, 0, &Platform::here()).unwrap();
        let config = read.image_config();
        assert_eq!(
            config.env,
            [("A".into(), "b=c".into()), ("D".into(), String::new())]
        );
        assert_eq!(config.volumes, ["/data"]);
        let again = serde_json::to_vec(&Configuration::of(&config, Vec::new())).unwrap();
        let again = Configuration::read(&again, 0, &Platform::here()).unwrap();
        let mut expected = config.clone();
        expected.env[1] = ("D".into(), String::new());
        assert_eq!(again.image_config(), expected);
    }
}
