//! Which form an answer takes, out of what the client accepts.

use http::{HeaderMap, header};

use crate::status::ApiError;

/// What the answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects as they are.
    Whole,
    /// Rows and columns for people.
    Table,
    /// Only the metadata of the objects.
    MetadataOnly,
}

/// How the answer is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The form that the client likes best among those there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
}

const OFFERED: [&str; 2] = ["application/json", "application/yaml"];

impl Accept {
    /// Reads the Accept header of a request about objects.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Accept, ApiError> {
        let ranges = ranges(headers);
        if ranges.is_empty() {
            return Ok(Accept {
                form: Form::Whole,
                encoding: Encoding::Json,
            });
        }
        ranges
            .iter()
            .find_map(accept)
            .ok_or_else(|| ApiError::not_acceptable(&OFFERED))
    }
}

/// One thing that a client accepts: `application/json;as=Table;g=meta.k8s.io;v=v1`.
#[derive(Clone, Debug)]
pub(crate) struct MediaRange {
    pub(crate) name: String,
    parameters: Vec<(String, String)>,
    quality: f32,
}

impl MediaRange {
    /// A parameter's value, or the empty string.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }
}

/// What the client accepts, what it likes best first.
pub(crate) fn ranges(headers: &HeaderMap) -> Vec<MediaRange> {
    let mut ranges: Vec<MediaRange> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .take(64)
        .filter_map(media_range)
        .collect();
    ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    ranges
}

/// Reads a single media type with its parameters.
fn media_range(text: &str) -> Option<MediaRange> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts
        .next()
        .filter(|name| !name.is_empty())?
        .to_ascii_lowercase();
    let mut range = MediaRange {
        name,
        parameters: Vec::new(),
        quality: 1.0,
    };
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim() {
            "q" => range.quality = value.trim().parse().unwrap_or(0.0),
            key => range
                .parameters
                .push((key.to_owned(), value.trim().to_owned())),
        }
    }
    Some(range)
}

fn accept(range: &MediaRange) -> Option<Accept> {
    let encoding = match range.name.as_str() {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let known_version =
        range.parameter("g") == "meta.k8s.io" && matches!(range.parameter("v"), "v1" | "v1beta1");
    let form = match range.parameter("as") {
        "" => Form::Whole,
        "Table" if known_version => Form::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if known_version => {
            Form::MetadataOnly
        }
        _ => return None,
    };
    Some(Accept { form, encoding })
}

/// The format of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    /// JSON, also when nothing is said.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf envelope.
    Protobuf,
}

/// Reads the Content-Type of a request that carries an object.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<BodyFormat, ApiError> {
    match content_type(headers).as_str() {
        "" | "application/json" | "*/*" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        _ => Err(ApiError::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchFormat {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own merge, which knows the lists of each kind.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// Reads the Content-Type of a patch.
pub(crate) fn patch_format(headers: &HeaderMap) -> Result<PatchFormat, ApiError> {
    match content_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchFormat::Json),
        "application/merge-patch+json" => Ok(PatchFormat::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchFormat::Strategic),
        "application/apply-patch+yaml" => Ok(PatchFormat::Apply),
        _ => Err(ApiError::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Accept, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("a header"));
        Accept::of(&headers)
    }

    #[test]
    fn kubectl_gets_its_table() {
        let header = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(
            accept(header),
            Ok(Accept {
                form: Form::Table,
                encoding: Encoding::Json
            })
        );
    }

    #[test]
    fn clients_that_prefer_protobuf_get_json_as_they_allow() {
        let header = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(
            accept(header),
            Ok(Accept {
                form: Form::Whole,
                encoding: Encoding::Json
            })
        );
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf").map_err(|e| e.code),
            Err(406)
        );
    }

    #[test]
    fn quality_decides_the_order() {
        let header = "application/json;q=0.5, application/yaml;q=0.9";
        assert_eq!(accept(header).map(|a| a.encoding), Ok(Encoding::Yaml));
    }
}
