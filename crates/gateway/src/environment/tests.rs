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
        ("CLEANUP_INTERVAL_SECONDS", "300"),
        ("SIDECAR_GRPC_PORT", "7000"),
        ("EXECUTOR_IMAGE_PULL_POLICY", "Never"),
        ("EXECUTOR_IMAGE_PULL_SECRETS", "one, two,"),
    ])
    .unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:8000");
    assert_eq!(settings.database_url, "mysql+aiomysql://a:b@c/d");
    assert_eq!(settings.limits.idle, Some(Duration::from_secs(1800)));
    let every = (settings.look_every, settings.clear_every);
    assert_eq!(
        every,
        (Duration::from_secs(5), Duration::from_secs(300)),
        "who is lost is looked for more often"
    );
    assert_eq!(settings.agent_port, 7000);
    assert_eq!(settings.pulls.policy.as_str(), "Never");
    assert_eq!(settings.pulls.secrets, ["one", "two"]);
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
