//! From the Secrets that an engine names to what Kafka's clients, and the agents' sidecars, take. Pure.

use std::collections::{BTreeMap, BTreeSet};

use decree_crds::engine::DecisionEngineSpec;
use decree_crds::engine::kafka::{self, Kafka};
use decree_kafka::{ClientCertificate, Connection, Sasl, Tls};
use decree_wire::document::{Mechanism, file};

use crate::engine::problem::Problem;
use crate::spec::{self, Access};

/// What brokers log of the operator.
pub const CLIENT: &str = "decree-operator";

/// The keys of a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;
/// Secrets by name; none where there is no such Secret.
pub type Secrets = BTreeMap<String, Option<Data>>;

/// What the Secrets give, or what is wrong with them.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The operator's way to the brokers; none where there are none.
    pub operator: Option<Result<Connection, Problem>>,
    /// What lies beside the sidecars' document; what could not be had is missing.
    pub files: Data,
    /// Why it is missing.
    pub problems: Vec<Problem>,
}

/// Both ways to the brokers that a spec names.
#[must_use]
pub fn accesses(kafka: &Kafka) -> (Access, Option<Access>) {
    let agents = access(kafka.tls.as_ref(), kafka.sasl.as_ref());
    (agents, kafka.admin.as_ref().map(|admin| access(admin.tls.as_ref(), admin.sasl.as_ref())))
}

fn access(tls: Option<&kafka::Tls>, sasl: Option<&kafka::Sasl>) -> Access {
    Access {
        tls: tls.map(|tls| spec::Tls {
            ca: tls.ca_secret.as_ref().map(|ca| (ca.name.clone(), ca.key.clone())),
            client: tls.client_secret.as_ref().map(|client| client.name.clone()),
        }),
        sasl: sasl.map(|sasl| (mechanism(sasl.mechanism), sasl.secret.name.clone())),
    }
}

fn mechanism(mechanism: kafka::Mechanism) -> Mechanism {
    match mechanism {
        kafka::Mechanism::Plain => Mechanism::Plain,
        kafka::Mechanism::ScramSha256 => Mechanism::ScramSha256,
        kafka::Mechanism::ScramSha512 => Mechanism::ScramSha512,
    }
}

/// Which Secrets a spec names.
#[must_use]
pub fn names(spec: &DecisionEngineSpec) -> BTreeSet<String> {
    let (agents, admin) = spec.kafka.as_ref().map(accesses).unwrap_or_default();
    let headers = spec.agents.iter().filter_map(|agent| agent.app.deliver_headers.as_ref());
    let mut names: BTreeSet<_> = headers.map(|headers| headers.secret.name.clone()).collect();
    for Access { tls, sasl } in [Some(agents), admin].into_iter().flatten() {
        let tls = tls.unwrap_or_default();
        names.extend(tls.ca.map(|(name, _)| name).into_iter().chain(tls.client));
        names.extend(sasl.map(|(_, name)| name));
    }
    names
}

/// Everything at once; each part is there though another is missing.
#[must_use]
pub fn of(spec: &DecisionEngineSpec, secrets: &Secrets) -> Credentials {
    let mut problems = Vec::new();
    let mut files = Data::new();
    let ways = spec.kafka.as_ref().map(|kafka| (kafka, accesses(kafka)));
    if let Some((_, (agents, _))) = &ways {
        match secured(agents, "spec.kafka", secrets) {
            Ok((tls, sasl)) => files.extend(files_of(tls.as_ref(), sasl.as_ref())),
            Err(problem) => problems.push(problem),
        }
    }
    for agent in &spec.agents {
        let Some(headers) = &agent.app.deliver_headers else { continue };
        let field = format!("spec.agents[{}].app.deliverHeaders.secret", agent.class);
        match deliver_headers(&headers.secret.name, &field, secrets) {
            Ok(bytes) => _ = files.insert(file::deliver_headers(&agent.class), bytes),
            Err(problem) => problems.push(problem),
        }
    }
    let operator = ways.map(|(kafka, (agents, admin))| {
        let own = admin.as_ref().map_or((&agents, "spec.kafka"), |admin| (admin, "spec.kafka.admin"));
        let (tls, sasl) = secured(own.0, own.1, secrets)?;
        Ok(Connection::plain(kafka.bootstrap_servers.iter().cloned(), CLIENT).secured(tls, sasl))
    });
    Credentials { operator, files, problems }
}

type Secured = (Option<Tls>, Option<Sasl>);

fn secured(access: &Access, field: &str, secrets: &Secrets) -> Result<Secured, Problem> {
    let take = |secret: &str, key: &str, field: String| text(secret, key, &field, secrets);
    let tls = match &access.tls {
        None => None,
        Some(spec::Tls { ca, client }) => {
            let ca = ca
                .as_ref()
                .map(|(secret, key)| pem(secret, key, take(secret, key, format!("{field}.tls.caSecret"))?));
            let client = client.as_ref().map(|secret| {
                let of = |key| pem(secret, key, take(secret, key, format!("{field}.tls.clientSecret"))?);
                Ok(ClientCertificate { certificate: of("tls.crt")?, key: of("tls.key")? })
            });
            Some(Tls { ca: ca.transpose()?, client: client.transpose()? })
        }
    };
    let sasl = match &access.sasl {
        None => None,
        Some((mechanism, secret)) => {
            let of = |key| line(secret, key, take(secret, key, format!("{field}.sasl.secret"))?);
            let (username, password) = (of("username")?, of("password")?);
            Some(Sasl { mechanism: native(*mechanism), username, password })
        }
    };
    Ok((tls, sasl))
}

/// As the client of Kafka names it.
#[must_use]
pub fn native(mechanism: Mechanism) -> decree_kafka::Mechanism {
    match mechanism {
        Mechanism::Plain => decree_kafka::Mechanism::Plain,
        Mechanism::ScramSha256 => decree_kafka::Mechanism::ScramSha256,
        Mechanism::ScramSha512 => decree_kafka::Mechanism::ScramSha512,
    }
}

fn files_of(tls: Option<&Tls>, sasl: Option<&Sasl>) -> Data {
    let client = tls.and_then(|tls| tls.client.as_ref());
    let files = [
        (file::CA, tls.and_then(|tls| tls.ca.as_ref())),
        (file::CLIENT_CERTIFICATE, client.map(|client| &client.certificate)),
        (file::CLIENT_KEY, client.map(|client| &client.key)),
        (file::USERNAME, sasl.map(|sasl| &sasl.username)),
        (file::PASSWORD, sasl.map(|sasl| &sasl.password)),
    ];
    let there =
        files.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.clone().into_bytes())));
    there.collect()
}

/// What belongs to a connection, or frames a body.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A JSON object; names in a fixed order, so that the same Secret gives the same bytes.
fn deliver_headers(secret: &str, field: &str, secrets: &Secrets) -> Result<Vec<u8>, Problem> {
    let Some(Some(data)) = secrets.get(secret) else { return Err(absent(secret, field)) };
    let mut headers = BTreeMap::new();
    for key in data.keys() {
        let value = line(secret, key, text(secret, key, field, secrets)?)?;
        let own = key.to_ascii_lowercase();
        if FRAMING.contains(&own.as_str()) || own.starts_with("decree-") || own.starts_with("ce-") {
            return Err(invalid(secret, key, "is a header that the sidecar itself sets"));
        }
        let fits = http::HeaderName::from_bytes(key.as_bytes()).is_ok()
            && http::HeaderValue::from_str(&value).is_ok();
        if !fits {
            return Err(invalid(
                secret,
                key,
                "is no header: its name or its value has characters that HTTP does not take",
            ));
        }
        headers.insert(key, value);
    }
    serde_json::to_vec(&headers).map_err(|error| invalid(secret, "", &error.to_string()))
}

fn text(secret: &str, key: &str, field: &str, secrets: &Secrets) -> Result<String, Problem> {
    let Some(Some(data)) = secrets.get(secret) else { return Err(absent(secret, field)) };
    let bytes = data.get(key).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        Problem::person(
            "SecretMissing",
            format!("Secret {secret}, which {field} names, has no key {key}; add it to the Secret"),
        )
    })?;
    let text = String::from_utf8(bytes.clone()).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| invalid(secret, key, "is no text"))
}

fn pem(secret: &str, key: &str, text: String) -> Result<String, Problem> {
    let is_pem = text.contains("-----BEGIN ");
    if is_pem {
        Ok(text)
    } else {
        Err(invalid(secret, key, "is not PEM (a block that begins with -----BEGIN)"))
    }
}

/// `echo` without `-n` ends a password with a line break, which is then refused as a wrong one.
fn line(secret: &str, key: &str, text: String) -> Result<String, Problem> {
    let is_line = !text.contains(['\n', '\r']);
    if is_line {
        Ok(text)
    } else {
        Err(invalid(secret, key, "has a line break in it, which would be part of it"))
    }
}

fn absent(secret: &str, field: &str) -> Problem {
    Problem::person(
        "SecretMissing",
        format!("Secret {secret}, which {field} names, does not exist in the engine's namespace; make it"),
    )
}

fn invalid(secret: &str, key: &str, why: &str) -> Problem {
    Problem::person("SecretInvalid", format!("key {key} of Secret {secret} {why}; correct it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kafka: &str) -> DecisionEngineSpec {
        let spec = format!(
            "
kafka: {{bootstrapServers: [a:1], {kafka}}}
agents: [{{class: x, app: {{port: 80, deliverHeaders: {{secret: {{name: token}}}}}}, apply: {{path: /}}}}]
"
        );
        serde_yaml::from_str(&spec).unwrap()
    }

    fn secret(entries: &[(&str, &str)]) -> Option<Data> {
        Some(entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
    }

    const BOTH: &str = "tls: {caSecret: {name: ca}, clientSecret: {name: cert}},
        sasl: {mechanism: SCRAM-SHA-512, secret: {name: agents}},
        admin: {tls: {caSecret: {name: ca}}, sasl: {mechanism: PLAIN, secret: {name: admin}}}";

    fn all() -> Secrets {
        let pem = "-----BEGIN CERTIFICATE-----";
        Secrets::from([
            ("ca".into(), secret(&[("ca.crt", pem)])),
            ("cert".into(), secret(&[("tls.crt", pem), ("tls.key", "-----BEGIN PRIVATE KEY-----")])),
            ("agents".into(), secret(&[("username", "a"), ("password", "agents-secret")])),
            ("admin".into(), secret(&[("username", "b"), ("password", "admin-secret")])),
            ("token".into(), secret(&[("Authorization", "Bearer x")])),
        ])
    }

    #[test]
    fn the_agents_get_theirs_and_never_the_operators() {
        let spec = spec(BOTH);
        assert_eq!(names(&spec).into_iter().collect::<Vec<_>>(), ["admin", "agents", "ca", "cert", "token"]);
        let Credentials { operator, files, problems } = of(&spec, &all());
        assert_eq!(problems, []);
        let sasl = operator.unwrap().unwrap().sasl.unwrap();
        assert_eq!((sasl.username.as_str(), sasl.password.as_str()), ("b", "admin-secret"));
        let text: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), String::from_utf8_lossy(bytes))).collect();
        assert!(text.iter().all(|(_, text)| !text.contains("admin-secret")), "{text:?}");
        assert_eq!(files[file::PASSWORD], b"agents-secret");
        assert_eq!(files["deliver-headers-x.json"], br#"{"Authorization":"Bearer x"}"#);
        assert_eq!(files.len(), 6);
    }

    #[test]
    fn what_is_missing_is_named_and_the_rest_is_there() {
        let mut secrets = all();
        secrets.insert("agents".into(), secret(&[("username", "a")]));
        secrets.insert("token".into(), None);
        let Credentials { operator, files, problems } = of(&spec(BOTH), &secrets);
        assert!(operator.unwrap().is_ok() && files.is_empty());
        let said: Vec<_> = problems.iter().map(|p| (p.reason, p.message.as_str())).collect();
        assert!(
            matches!(said[..], [("SecretMissing", one), ("SecretMissing", two)]
                if one.contains("Secret agents") && one.contains("no key password") && one.contains("spec.kafka.sasl")
                && two.contains("Secret token") && two.contains("deliverHeaders")),
            "{said:?}"
        );
        secrets.insert("admin".into(), secret(&[("username", "b"), ("password", "x\n")]));
        let refused = of(&spec(BOTH), &secrets).operator.unwrap().unwrap_err();
        assert_eq!(refused.reason, "SecretInvalid");
        assert!(refused.message.contains("line break"), "{}", refused.message);
    }
}
