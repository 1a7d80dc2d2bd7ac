//! Settings from environment variables, by the names that deployments use already.

mod stores;
mod variables;

use std::{net::IpAddr, num::NonZeroU32, path::Path, time::Duration};

use crate::{
    access::{BadToken, Token},
    pools::{cpu, mebibytes as mib},
    settings::{Files, Settings},
};
use variables::Variables;

/// How often each caller may call in any minute, where calls are counted.
const USUAL_CALLS: u32 = 6000;
/// The longest that anything may be asked to take, in seconds.
const LONGEST: i64 = 3600;

/// A variable that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadVariable {
    /// It is not what it should be.
    #[error("the variable {name} is {value:?}, which is not {wanted}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// One of the tokens cannot be read.
    #[error("the variable SANDLOT_GATEWAY_TOKENS: {0}")]
    Token(#[from] BadToken),
    /// The key is none.
    #[error("the variable SANDLOT_OPERATOR_KEY is not a key: give the one that the operator has")]
    Key,
}

impl Settings {
    /// As the variables say, which `variable` looks up; what they do not say is kept in
    /// `folder`, or is as usual.
    pub fn from_environment(
        folder: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadVariable> {
        let read = Variables(&variable);
        let mut settings = Self::in_folder(folder);
        if let Some(host) = read.parsed::<IpAddr>("HOST", "an address")? {
            settings.listen.set_ip(host);
        }
        if let Some(port) = read.parsed("PORT", "a port")? {
            settings.listen.set_port(port);
        }
        if let Some(url) = stores::database(&read) {
            settings.database_url = url;
        }
        if let Some(count) = read.parsed("DB_POOL_SIZE", "a number of connections")? {
            settings.database_connections = count;
        }
        if let Some(bucket) = stores::bucket(&read) {
            settings.files = Files::Bucket(bucket);
        }
        if let Some(namespace) = read.text("KUBERNETES_NAMESPACE") {
            settings.namespace = namespace;
        }
        if let Some(key) = read.text("SANDLOT_OPERATOR_KEY") {
            settings.key = Some(key.parse().map_err(|_| BadVariable::Key)?);
        }
        if let Some(port) = read.parsed("SIDECAR_GRPC_PORT", "a port")? {
            settings.agent_port = port;
        }
        settings.callback_secret = read.text("INTERNAL_API_TOKEN");
        settings.callback_url = read.text("CONTROL_PLANE_URL");
        limits(&mut settings, &read)?;
        templates(&mut settings, &read)?;
        callers(&mut settings, &read)?;
        if let Some(false) = read.flag("DISABLE_BWRAP")? {
            tracing::warn!(
                "DISABLE_BWRAP=false has no effect: sessions are kept apart by their pods"
            );
        }
        Ok(settings)
    }
}

/// Who may call, and how often.
fn callers(settings: &mut Settings, read: &Variables<'_>) -> Result<(), BadVariable> {
    settings.closed = match read.text("ENVIRONMENT").as_deref().map(str::trim) {
        None | Some("development" | "staging") => false,
        Some("production") => true,
        Some(other) => {
            return Err(BadVariable::Value {
                name: "ENVIRONMENT",
                value: other.to_owned(),
                wanted: "development, staging or production",
            });
        }
    };
    if let Some(tokens) = read.text("SANDLOT_GATEWAY_TOKENS") {
        settings.tokens = Token::list(&tokens)?;
    }
    if let Some(origins) = read.text("CORS_ORIGINS") {
        settings.origins = origins
            .split(',')
            .map(|origin| origin.trim().to_owned())
            .filter(|origin| !origin.is_empty())
            .collect();
    }
    let is_reachable = !settings.listen.ip().is_loopback();
    let is_paced = read.flag("RATE_LIMIT_ENABLED")?.unwrap_or(is_reachable);
    let wanted = "a number of calls from 1 on";
    let calls = read.parsed::<NonZeroU32>("RATE_LIMIT_PER_MINUTE", wanted)?;
    settings.calls_per_minute = is_paced.then(|| calls.map_or(USUAL_CALLS, NonZeroU32::get));
    Ok(())
}

fn limits(settings: &mut Settings, read: &Variables<'_>) -> Result<(), BadVariable> {
    let positive = |number: i64, unit: u64| {
        let number = u64::try_from(number).ok().filter(|number| *number > 0);
        number.map(|number| Duration::from_secs(number.saturating_mul(unit)))
    };
    if let Some(minutes) = read.parsed("IDLE_THRESHOLD_MINUTES", "a number of minutes")? {
        settings.limits.idle = positive(minutes, 60);
    }
    if let Some(hours) = read.parsed("MAX_LIFETIME_HOURS", "a number of hours")? {
        settings.limits.lifetime = positive(hours, 3600);
    }
    let wanted = "a number of seconds from 30 on";
    if let Some(seconds) = read.parsed::<u64>("CREATING_TIMEOUT_SECONDS", wanted)? {
        settings.limits.creating = Duration::from_secs(seconds.max(30));
    }
    let every = |name, usual: Duration| {
        let seconds = read.parsed::<u64>(name, "a number of seconds from 1 on")?;
        let every = seconds.map_or(usual, |seconds| Duration::from_secs(seconds.max(1)));
        Ok::<_, BadVariable>(every)
    };
    settings.look_every = every("HEALTH_CHECK_INTERVAL_SECONDS", settings.look_every)?;
    settings.clear_every = every("CLEANUP_INTERVAL_SECONDS", settings.clear_every)?;
    let wanted = "a number of seconds from 1 to 3600";
    let seconds = |name| match read.parsed::<i64>(name, wanted) {
        Ok(Some(seconds)) if !(1..=LONGEST).contains(&seconds) => Err(BadVariable::Value {
            name,
            value: seconds.to_string(),
            wanted,
        }),
        read => read,
    };
    let (usual, most) = &mut settings.timeouts;
    *most = seconds("MAX_TIMEOUT")?.unwrap_or(*most);
    *usual = seconds("DEFAULT_TIMEOUT")?.unwrap_or(*usual).min(*most);
    let mebibytes = |name| read.parsed::<u64>(name, "a number of MiB");
    if let Some(most) = mebibytes("MAX_UPLOAD_FILE_SIZE_MB")? {
        settings.largest_upload = most.saturating_mul(1 << 20);
    }
    if let Some(most) = read.parsed("MAX_EXTRACTED_FILE_COUNT", "a number of files")? {
        settings.largest_archive.0 = most;
    }
    if let Some(most) = mebibytes("MAX_EXTRACTED_TOTAL_SIZE_MB")? {
        settings.largest_archive.1 = most.saturating_mul(1 << 20);
    }
    Ok(())
}

fn templates(settings: &mut Settings, read: &Variables<'_>) -> Result<(), BadVariable> {
    if let Some(image) = read.text("DEFAULT_TEMPLATE_IMAGE") {
        settings.default_image = image;
    }
    if let Some(image) = read.text("MULTI_LANGUAGE_TEMPLATE_IMAGE") {
        settings.languages_image = image;
    }
    let wanted = "Always, IfNotPresent or Never";
    if let Some(policy) = read.parsed("EXECUTOR_IMAGE_PULL_POLICY", wanted)? {
        settings.pulls.policy = policy;
    }
    if let Some(secrets) = read.text("EXECUTOR_IMAGE_PULL_SECRETS") {
        let names = secrets.split(',').map(str::trim);
        let named = names.filter(|name| !name.is_empty());
        settings.pulls.secrets = named.map(ToOwned::to_owned).collect();
    }
    if let Some(id) = read.text("DEFAULT_TEMPLATE_ID") {
        settings.default_template = id;
    }
    let shape = &mut settings.default_shape;
    let size = |name, least: u64, read_size: fn(&str) -> Option<u64>, wanted| match read.text(name)
    {
        None => Ok(least),
        Some(value) => read_size(value.trim()).ok_or(BadVariable::Value {
            name,
            value,
            wanted,
        }),
    };
    let mebibytes = "a size such as 512Mi or 1Gi";
    shape.cpu_millis = size("DEFAULT_CPU", shape.cpu_millis, cpu, "a number of cores")?;
    shape.memory_mib = size("DEFAULT_MEMORY", shape.memory_mib, mib, mebibytes)?;
    shape.disk_mib = size("DEFAULT_DISK", shape.disk_mib, mib, mebibytes)?;
    if let Some(count) = read.parsed("WARM_POOL_DEFAULT_SIZE", "a number of pods")? {
        settings.warm = count;
    }
    if let Some(is_warm) = read.flag("WARM_POOL_ENABLED")? {
        settings.warm_at_start = is_warm;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
