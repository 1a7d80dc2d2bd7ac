//! Settings from environment variables, by the names that deployments use already.

use std::{net::IpAddr, num::NonZeroU32, path::Path, time::Duration};

use crate::{
    access::{BadToken, Token},
    pools::{cpu, mebibytes as mib},
    settings::{Bucket, Files, Settings},
};

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
        if let Some(url) = database(&read) {
            settings.database_url = url;
        }
        if let Some(count) = read.parsed("DB_POOL_SIZE", "a number of connections")? {
            settings.database_connections = count;
        }
        if let Some(bucket) = bucket(&read) {
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
    let wanted = "a number of seconds from 1 on";
    for name in ["CLEANUP_INTERVAL_SECONDS", "HEALTH_CHECK_INTERVAL_SECONDS"] {
        if let Some(seconds) = read.parsed::<u64>(name, wanted)? {
            settings.sweep_every = Duration::from_secs(seconds.max(1));
        }
    }
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

/// The database's address: in parts where all of them are there, else in one, which takes its
/// password from beside it where it has none of its own.
fn database(read: &Variables<'_>) -> Option<String> {
    let part = |name| read.text(name).map(|text| encoded(&text));
    let in_parts = || {
        let kind = read.text("DB_TYPE")?.to_ascii_lowercase();
        Some(format!(
            "{kind}://{}:{}@{}:{}/{}",
            part("DB_USER")?,
            part("DB_PASSWORD")?,
            read.text("DB_HOST")?,
            read.text("DB_PORT")?,
            part("DB_DATABASE")?,
        ))
    };
    let in_one = || {
        let url = read.text("DATABASE_URL")?;
        Some(with_password(&url, part("DB_PASSWORD")).unwrap_or(url))
    };
    in_parts().or_else(in_one)
}

/// An address that names a user, with a password for it.
fn with_password(url: &str, password: Option<String>) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, place) = rest.split_once('@')?;
    let has_none = !user.contains(':') && !user.contains('/');
    has_none.then(|| Some(format!("{scheme}://{user}:{}@{place}", password?)))?
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The bucket, where a store is named or somebody has a key to one.
fn bucket(read: &Variables<'_>) -> Option<Bucket> {
    let credentials = read
        .text("S3_ACCESS_KEY_ID")
        .zip(read.text("S3_SECRET_ACCESS_KEY"));
    let endpoint = read.text("S3_ENDPOINT_URL");
    if credentials.is_none() && endpoint.is_none() {
        return None;
    }
    let or = |name, usual: &str| read.text(name).unwrap_or_else(|| usual.to_owned());
    Some(Bucket {
        name: or("S3_BUCKET", "sandbox-workspace"),
        region: or("S3_REGION", "us-east-1"),
        endpoint,
        credentials,
    })
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn flag(&self, name: &'static str) -> Result<Option<bool>, BadVariable> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(BadVariable::Value {
                name,
                value,
                wanted: "true or false",
            }),
        }
    }

    /// An empty variable says as little as none.
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<Option<T>, BadVariable> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().to_ascii_lowercase().parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(BadVariable::Value {
                name,
                value,
                wanted,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, BadVariable> {
        Settings::from_environment(Path::new("/data"), |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_variables_everything_is_kept_on_this_machine() {
        let settings = read(&[]).unwrap();
        assert!(settings.listen.ip().is_loopback() && settings.listen.port() == 8000);
        assert_eq!(settings.database_url, "sqlite:///data/sessions.db?mode=rwc");
        assert!(matches!(settings.files, Files::Folder(_)));
        assert_eq!(
            (settings.limits.idle, settings.limits.lifetime),
            (None, None)
        );
    }

    #[test]
    fn the_deployments_variables_are_heard() {
        let settings = read(&[
            ("HOST", "0.0.0.0"),
            ("DATABASE_URL", "mysql+aiomysql://a:b@c/d"),
            ("IDLE_THRESHOLD_MINUTES", "30"),
            ("MAX_LIFETIME_HOURS", "-1"),
            ("S3_ENDPOINT_URL", "http://minio:9000"),
            ("S3_ACCESS_KEY_ID", "key"),
            ("S3_SECRET_ACCESS_KEY", "secret"),
            ("MAX_UPLOAD_FILE_SIZE_MB", "1"),
        ])
        .unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8000");
        assert_eq!(settings.database_url, "mysql+aiomysql://a:b@c/d");
        assert_eq!(settings.limits.idle, Some(Duration::from_secs(1800)));
        assert_eq!(
            (settings.limits.lifetime, settings.largest_upload),
            (None, 1 << 20)
        );
        let Files::Bucket(bucket) = &settings.files else {
            panic!("a bucket")
        };
        assert_eq!(bucket.name, "sandbox-workspace");
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn the_database_in_parts_wins_and_its_password_may_hold_anything() {
        let parts = [
            ("DATABASE_URL", "sqlite:x"),
            ("DB_TYPE", "MYSQL"),
            ("DB_HOST", "h"),
            ("DB_PORT", "3306"),
            ("DB_USER", "u"),
            ("DB_PASSWORD", "p@/:"),
            ("DB_DATABASE", "d"),
        ];
        assert_eq!(
            read(&parts).unwrap().database_url,
            "mysql://u:p%40%2F%3A@h:3306/d"
        );
        assert_eq!(read(&parts[..6]).unwrap().database_url, "sqlite:x");
    }

    #[test]
    fn an_address_without_a_password_takes_the_one_beside_it() {
        let url = |url, password| {
            let pair = [("DATABASE_URL", url), ("DB_PASSWORD", password)];
            read(&pair).unwrap().database_url
        };
        assert_eq!(url("mysql://u@h/d", "p@/"), "mysql://u:p%40%2F@h/d");
        assert_eq!(url("mysql://u:own@h/d", "p"), "mysql://u:own@h/d");
        assert_eq!(url("sqlite:///a@b.db", "p"), "sqlite:///a@b.db");
        assert_eq!(url("mysql://u@h/d", ""), "mysql://u@h/d");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = read(&[("PORT", "eight")]).unwrap_err().to_string();
        assert_eq!(error, "the variable PORT is \"eight\", which is not a port");
        for (name, value) in [
            ("ENVIRONMENT", "prod"),
            ("MAX_TIMEOUT", "7200"),
            ("DEFAULT_TIMEOUT", "0"),
            ("DEFAULT_CPU", "none"),
            ("DEFAULT_MEMORY", "256M"),
            ("RATE_LIMIT_ENABLED", "maybe"),
            ("RATE_LIMIT_PER_MINUTE", "0"),
            ("DISABLE_BWRAP", "perhaps"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn times_and_sizes_are_those_of_the_configuration() {
        let settings = read(&[
            ("DEFAULT_TIMEOUT", "300"),
            ("MAX_TIMEOUT", "120"),
            ("DEFAULT_CPU", "0.2"),
            ("DEFAULT_MEMORY", "256Mi"),
            ("DEFAULT_DISK", "1Gi"),
            ("DISABLE_BWRAP", "true"),
        ])
        .unwrap();
        assert_eq!(settings.timeouts, (120, 120));
        let shape = settings.default_shape;
        assert_eq!(
            (shape.cpu_millis, shape.memory_mib, shape.disk_mib),
            (200, 256, 1024)
        );
    }

    #[test]
    fn who_can_be_reached_counts_calls_and_production_is_never_open() {
        let here = read(&[]).unwrap();
        assert_eq!(here.calls_per_minute, None);
        assert!(here.must_be_closed().is_ok());
        let reached = read(&[("HOST", "0.0.0.0")]).unwrap();
        assert_eq!(reached.calls_per_minute, Some(USUAL_CALLS));
        assert!(reached.must_be_closed().is_err());
        let off = read(&[("HOST", "0.0.0.0"), ("RATE_LIMIT_ENABLED", "False")]).unwrap();
        assert_eq!(off.calls_per_minute, None);
        let few = read(&[("RATE_LIMIT_ENABLED", "1"), ("RATE_LIMIT_PER_MINUTE", "60")]).unwrap();
        assert_eq!(few.calls_per_minute, Some(60));
        let production = read(&[("ENVIRONMENT", "production")]).unwrap();
        assert!(production.must_be_closed().is_err());
        let token = format!("ann:user:{}", crate::hash_of("a"));
        let closed = [
            ("ENVIRONMENT", "production"),
            ("SANDLOT_GATEWAY_TOKENS", &*token),
        ];
        assert!(read(&closed).unwrap().must_be_closed().is_ok());
    }
}
