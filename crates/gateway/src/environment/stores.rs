//! Where sessions are noted and where their files are kept: a database and a bucket.

use super::variables::Variables;
use crate::settings::Bucket;

/// The database's address: in parts where all of them are there, else in one, which takes its
/// password from beside it where it has none of its own.
pub(super) fn database(read: &Variables<'_>) -> Option<String> {
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
pub(super) fn bucket(read: &Variables<'_>) -> Option<Bucket> {
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
