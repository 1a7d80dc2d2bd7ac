//! Where a server is.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use serde_json::Value;

use crate::kubelet::BoxFuture;
use crate::lookup::Lookup;

/// Finds out where a Service can be reached from here.
pub trait Services: Send + Sync + 'static {
    /// An address that leads to a port of a Service, or why there is none.
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<SocketAddr, String>>;
}

/// Finds Services through their Endpoints: the pods themselves.
pub struct Endpoints {
    lookup: Arc<dyn Lookup>,
}

impl Endpoints {
    /// Reads Services and Endpoints here.
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Endpoints { lookup }
    }

    fn ready(&self, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, String> {
        let service = self.lookup.get("services", namespace, name);
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        let ports = service["spec"]["ports"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let wanted = ports.iter().find(|one| one["port"] == port);
        let wanted = wanted.ok_or_else(|| format!("service {name:?} has no port {port}"))?;
        let none = || format!("no endpoints available for service {name:?}");
        let endpoints = self
            .lookup
            .get("endpoints", namespace, name)
            .ok_or_else(none)?;
        let subsets = endpoints["subsets"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        subsets
            .iter()
            .find_map(|subset| address(subset, wanted))
            .ok_or_else(none)
    }
}

/// The first address of a subset, with its port of the same name.
fn address(subset: &Value, wanted: &Value) -> Option<SocketAddr> {
    let ports = subset["ports"].as_array()?;
    let port = ports.iter().find(|port| port["name"] == wanted["name"])?["port"].as_u64()?;
    let ip = subset["addresses"][0]["ip"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

impl Services for Endpoints {
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<SocketAddr, String>> {
        Box::pin(async move { self.ready(namespace, name, port) })
    }
}

/// Where a webhook's configuration says that it is.
#[derive(Debug)]
pub(super) enum Place {
    /// At a URL.
    Url(Uri),
    /// Behind a Service.
    Service {
        namespace: String,
        name: String,
        port: u16,
        path: String,
    },
    /// Nowhere that makes sense.
    Wrong(String),
}

/// A place that can be connected to.
pub(super) struct Found {
    /// The name that its certificate must have.
    pub(super) host: String,
    /// Where to connect: a name or an address, and the port.
    pub(super) address: (String, u16),
    pub(super) path: String,
}

impl Place {
    pub(super) fn new(config: &WebhookClientConfig) -> Place {
        match (&config.url, &config.service) {
            (Some(url), None) => match url.parse::<Uri>() {
                Ok(uri) if uri.scheme_str() == Some("https") && uri.host().is_some() => {
                    Place::Url(uri)
                }
                _ => Place::Wrong(format!("{url:?} is no https URL")),
            },
            (None, Some(service)) => Place::Service {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                port: service
                    .port
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(443),
                path: service.path.clone().unwrap_or_default(),
            },
            _ => Place::Wrong("exactly one of url or service must be given".to_owned()),
        }
    }

    /// Where to connect to now.
    pub(super) async fn find(&self, services: &dyn Services) -> Result<Found, String> {
        match self {
            Place::Wrong(why) => Err(why.clone()),
            Place::Url(uri) => {
                let host = uri.host().unwrap_or_default();
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                let path = uri
                    .path_and_query()
                    .map_or("/", |path| path.as_str())
                    .to_owned();
                Ok(Found {
                    address: (host.clone(), uri.port_u16().unwrap_or(443)),
                    host,
                    path,
                })
            }
            Place::Service {
                namespace,
                name,
                port,
                path,
            } => {
                let address = services.find(namespace, name, *port).await?;
                Ok(Found {
                    host: format!("{name}.{namespace}.svc"),
                    address: (address.ip().to_string(), address.port()),
                    path: format!("/{}", path.trim_start_matches('/')),
                })
            }
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Place::Url(uri) => write!(f, "{uri}"),
            Place::Service {
                namespace,
                name,
                port,
                path,
            } => {
                write!(
                    f,
                    "https://{name}.{namespace}.svc:{port}/{}",
                    path.trim_start_matches('/')
                )
            }
            Place::Wrong(why) => f.write_str(why),
        }
    }
}
