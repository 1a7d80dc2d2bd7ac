//! Settings from environment variables, by the names that deployments use already.

use std::{net::IpAddr, path::Path, time::Duration};

use crate::{
    access::{BadToken, Token},
    settings::{Bucket, Files, Settings},
};

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
        limits(&mut settings, &read)?;
        templates(&mut settings, &read)?;
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
        Ok(settings)
    }
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
    if let Some(seconds) = read.parsed::<u64>("HEALTH_CHECK_INTERVAL_SECONDS", wanted)? {
        settings.sweep_every = Duration::from_secs(seconds.max(1));
    }
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
    if let Some(id) = read.text("DEFAULT_TEMPLATE_ID") {
        settings.default_template = id;
    }
    if let Some(count) = read.parsed("WARM_POOL_DEFAULT_SIZE", "a number of pods")? {
        settings.warm = count;
    }
    let wanted = "true or false";
    if let Some(is_warm) = read.parsed::<bool>("WARM_POOL_ENABLED", wanted)? {
        settings.warm_at_start = is_warm;
    }
    Ok(())
}

/// The database's address: in parts where all of them are there, else in one.
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
    in_parts().or_else(|| read.text("DATABASE_URL"))
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
    fn what_makes_no_sense_is_named() {
        let error = read(&[("PORT", "eight")]).unwrap_err().to_string();
        assert_eq!(error, "the variable PORT is \"eight\", which is not a port");
    }
}
