//! Admission rules in CEL and the schemas of plain strings, all saying: found this, expected that.
//! Does not cover what needs both resources at once (a bound `vs baseline`); [`crate::validate`] does, and it checks all of this again.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::quantity::{ranges, string_rule};

mod bounds;

pub(crate) use bounds::*;

/// The shape of a duration, as a guard: a malformed one already has its own message.
const DURATION: &str = "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?([0-9]{1,9}ms)?$";
/// The number of a bound.
const NUMBER: &str = "[0-9]{1,12}([.][0-9]{1,9})?";

/// A rule: where it points, what must hold, how the value found is written (CEL), and what is expected.
fn rule(field: &str, rule: &str, found: &str, expected: &str) -> Value {
    let mut value = json!({
        "rule": rule,
        "message": format!("expected {expected}"),
        "messageExpression": format!("'found ' + {found} + ', expected {expected}'"),
    });
    if let (false, Some(fields)) = (field.is_empty(), value.as_object_mut()) {
        fields.insert("fieldPath".to_owned(), json!(field));
    }
    value
}

fn text_schema(longest: u32, holds: &str, expected: &str) -> Schema {
    json_schema!({"type": "string", "maxLength": longest, "x-kubernetes-validations": string_rule(holds, expected)})
}

/// What a name of at most `longest` characters must look like.
pub(crate) const NAME: &str = "lower-case letters, digits and -, starting with a letter, such as digits-fp32";
/// What a label name must look like.
pub(crate) const LABEL: &str = "the name of a Prometheus label other than espalier_dev_revision, such as exported_pod";
/// What a model URI must look like.
pub(crate) const URI: &str = "a URI with a scheme and without spaces or $, such as oci://registry.example/digits@sha256:41ab";
/// What the address of a server must look like.
pub(crate) const ADDRESS: &str = "http:// or https://, a host, and no user, query or fragment, such as http://prometheus.monitoring:9090";
/// What the unit of a gauge must look like.
pub(crate) const UNIT: &str = "% or at most 16 letters other than x and pp, such as W, MiB or J/s";
/// What the name of a header or cookie must look like.
pub(crate) const TOKEN: &str = "letters, digits and the signs - _ . only, such as x-user-id";

pub(crate) fn name_40(_: &mut SchemaGenerator) -> Schema {
    text_schema(40, "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", NAME)
}

pub(crate) fn name_63(_: &mut SchemaGenerator) -> Schema {
    text_schema(63, "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", NAME)
}

pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    text_schema(253, "self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')", "the name of an object, such as digits")
}

pub(crate) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    text_schema(253, "self.matches('^[-._a-zA-Z0-9]+$')", "a key of a Secret, such as token")
}

pub(crate) fn label(_: &mut SchemaGenerator) -> Schema {
    text_schema(128, "self.matches('^[a-zA-Z_][a-zA-Z0-9_]*$') && self != 'espalier_dev_revision'", LABEL)
}

pub(crate) fn uri(_: &mut SchemaGenerator) -> Schema {
    text_schema(1024, "self.matches('^[a-z][a-z0-9+.-]*://[!-#%-~]+$')", URI)
}

pub(crate) fn address(_: &mut SchemaGenerator) -> Schema {
    text_schema(512, "self.matches('^https?://[^ /?#@]+(/[^ ?#@]*)?$')", ADDRESS)
}

pub(crate) fn unit(_: &mut SchemaGenerator) -> Schema {
    text_schema(16, "self.matches('^(%|[a-zA-Z][a-zA-Z/]*)?$') && !(self in ['x', 'pp'])", UNIT)
}

/// What a carbon intensity must look like.
pub(crate) const INTENSITY: &str = "grams of CO2e per kilowatt-hour above 0, such as 400g/kWh";
/// What a power usage effectiveness must look like.
pub(crate) const PUE: &str = "a number from 1 to 10, such as 1.2";
/// What the labels of a device must look like.
pub(crate) const DEVICE_LABELS: &str = "at most 4 different names of Prometheus labels, such as [UUID, GPU_I_ID]";

pub(crate) fn intensity(_: &mut SchemaGenerator) -> Schema {
    text_schema(32, &format!("self.matches('^{NUMBER}g/kWh$') && double(self.find('{NUMBER}')) > 0.0"), INTENSITY)
}

pub(crate) fn pue(_: &mut SchemaGenerator) -> Schema {
    text_schema(16, "self.matches('^[0-9]{1,2}([.][0-9]{1,9})?$') && double(self) >= 1.0 && double(self) <= 10.0", PUE)
}

pub(crate) fn device_labels(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 4, "items": label(generator), "x-kubernetes-list-type": "set"})
}

pub(crate) fn token(_: &mut SchemaGenerator) -> Schema {
    text_schema(64, "self.matches('^[-_.a-zA-Z0-9]+$')", TOKEN)
}

pub(crate) fn adopted_rule(_: &mut SchemaGenerator) -> Schema {
    text_schema(63, "self.matches('^([0-9]{1,2}|[a-z]([-.a-z0-9]*[a-z0-9])?)$')", "the name of a rule, or its index from 0 to 99")
}

pub(crate) fn window(_: &mut SchemaGenerator) -> Schema {
    ranges::WINDOW.schema()
}

pub(crate) fn interval(_: &mut SchemaGenerator) -> Schema {
    ranges::INTERVAL.schema()
}

pub(crate) fn request_timeout(_: &mut SchemaGenerator) -> Schema {
    ranges::REQUEST_TIMEOUT.schema()
}

pub(crate) fn prometheus_timeout(_: &mut SchemaGenerator) -> Schema {
    ranges::PROMETHEUS_TIMEOUT.schema()
}

pub(crate) fn slower_than(_: &mut SchemaGenerator) -> Schema {
    ranges::SLOWER_THAN.schema()
}

pub(crate) fn maturity_age(_: &mut SchemaGenerator) -> Schema {
    ranges::MATURITY_AGE.schema()
}

pub(crate) fn cohort_width(_: &mut SchemaGenerator) -> Schema {
    ranges::COHORT_WIDTH.schema()
}

pub(crate) fn stage_min(_: &mut SchemaGenerator) -> Schema {
    ranges::STAGE_MIN.schema()
}

pub(crate) fn stage_max(_: &mut SchemaGenerator) -> Schema {
    ranges::STAGE_MAX.schema()
}

pub(crate) fn probation(_: &mut SchemaGenerator) -> Schema {
    ranges::PROBATION.schema()
}

pub(crate) fn progress_deadline(_: &mut SchemaGenerator) -> Schema {
    ranges::PROGRESS_DEADLINE.schema()
}

/// Any object with apiVersion and kind; its content is not part of this API.
pub(crate) fn embedded_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// Any mapping; its content is not part of this API.
pub(crate) fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Labels that pick out series.
pub(crate) fn matchers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 256},
        "x-kubernetes-validations": [rule(
            "",
            "self.all(k, k.matches('^[a-zA-Z_][a-zA-Z0-9_]{0,127}$') && k != 'espalier_dev_revision')",
            // Keys have no bound in a schema, so a message that lists them is over the cost budget.
            "'another key'",
            "names of Prometheus labels other than espalier_dev_revision, such as job",
        )],
    })
}

fn exactly_one(fields: [&str; 2]) -> Value {
    let [a, b] = fields;
    rule(
        "",
        &format!("has(self.{a}) != has(self.{b})"),
        &format!("(has(self.{a}) ? '{a} and {b}' : 'neither')"),
        &format!("exactly one of {a}, {b}"),
    )
}

pub(crate) fn rollout() -> Value {
    json!([rule(
        ".workload.backendRef.name",
        "!has(self.baseline) || !has(self.workload.backendRef) || self.workload.backendRef.name != self.baseline.backendRef.name",
        "'\"' + self.workload.backendRef.name + '\" as workload and as baseline'",
        "two different Services",
    )])
}

pub(crate) fn workload() -> Value {
    json!([
        exactly_one(["template", "backendRef"]),
        rule(
            ".template",
            "!has(self.template) || (has(self.template.apiVersion) && has(self.template.kind) && self.template.apiVersion == 'apps/v1' && self.template.kind == 'Deployment')",
            "self.template.apiVersion + ' ' + self.template.kind",
            "apps/v1 Deployment",
        ),
        rule(".port", "!has(self.template) || has(self.port)", "'no port'", "the port of the pods that answers requests, beside template"),
        rule(
            ".port",
            "!has(self.port) || !has(self.backendRef) || has(self.template)",
            "'a port'",
            "no port beside backendRef, which has its own",
        ),
        rule(
            ".matchers",
            "!has(self.matchers) || size(self.matchers) == 0 || !has(self.template)",
            "'matchers'",
            "no matchers beside template, whose pods carry the revision as a label",
        ),
    ])
}

pub(crate) fn route() -> Value {
    json!([exactly_one(["template", "adopt"])])
}

pub(crate) fn assignment() -> Value {
    json!([exactly_one(["header", "cookie"])])
}

pub(crate) fn stage() -> Value {
    let steps = "'\"' + self.steps.join(', ') + '\"'";
    let mut rules = vec![
        rule("", "!has(self.percent) || !has(self.steps)", "'percent and steps'", "one of them: percent is a single step"),
        rule(
            "",
            "self.type == 'Shadow' || has(self.percent) || has(self.steps)",
            "'neither percent nor steps'",
            "one of them for Canary and ABTest, such as steps: [1%, 5%, 25%]",
        ),
        rule(".steps", "self.type != 'Shadow' || !has(self.steps)", steps, "percent for a Shadow stage, such as 100%"),
        rule(
            ".steps",
            "!has(self.steps) || !self.steps.all(s, s.matches('^[0-9]{1,3}%$')) || \
             (self.steps.map(s, int(s.replace('%', ''))).isSorted() && self.steps.all(s, self.steps.exists_one(t, t == s)))",
            steps,
            "steps that grow, such as 1%, 5%, 25%",
        ),
        rule(
            "",
            "self.type == 'Shadow' || !((has(self.percent) && self.percent == '100%') || (has(self.steps) && '100%' in self.steps))",
            "'100%'",
            "at most 99% in Canary and ABTest: the rest is what the candidate is compared with, and promotion follows the last step",
        ),
        rule(
            ".assignment",
            "self.type != 'ABTest' || has(self.assignment)",
            "'none'",
            "the header or cookie with the id of the user, for ABTest, such as {header: x-user-id}",
        ),
        rule(
            ".assignment",
            "self.type == 'ABTest' || !has(self.assignment)",
            "'an assignment in a ' + self.type + ' stage'",
            "it in ABTest only",
        ),
    ];
    rules.extend(stage_times());
    Value::Array(rules)
}

/// A stage must be able to end within its longest time.
fn stage_times() -> [Value; 2] {
    let duration = |field: &str, default: &str| match default {
        "" => format!("duration(self.{field})"),
        _ => format!("duration(has(self.{field}) ? self.{field} : '{default}')"),
    };
    let guard = |field: &str| format!("!has(self.{field}) || self.{field} == '' || !self.{field}.matches('{DURATION}')");
    let (min, step_min, max) = (duration("minDuration", ""), duration("stepMinDuration", ""), duration("maxDuration", "6h"));
    let bad_max = format!("(has(self.maxDuration) && (self.maxDuration == '' || !self.maxDuration.matches('{DURATION}')))");
    let max_text = "(has(self.maxDuration) ? self.maxDuration : '6h')";
    [
        rule(
            ".minDuration",
            &format!("{} || {bad_max} || {min} <= {max}", guard("minDuration")),
            "'\"' + self.minDuration + '\"'",
            &format!("at most maxDuration, ' + {max_text} + '"),
        ),
        rule(
            ".stepMinDuration",
            &format!(
                "{} || {bad_max} || {step_min}.getSeconds() * (has(self.steps) ? size(self.steps) : 1) <= {max}.getSeconds()",
                guard("stepMinDuration")
            ),
            "'\"' + self.stepMinDuration + '\" for every step'",
            &format!("all steps to fit into maxDuration, ' + {max_text} + '"),
        ),
    ]
}

pub(crate) fn policy() -> Value {
    let window = "(has(self.window) ? self.window : '1m')";
    let interval = "(has(self.interval) ? self.interval : '15s')";
    let mut rules = profile_rules().to_vec();
    rules.push(rule(
        ".window",
        &format!(
            "!{window}.matches('{DURATION}') || !{interval}.matches('{DURATION}') || {window} == '' || {interval} == '' || \
             duration({window}) >= duration({interval})"
        ),
        &format!("'\"' + {window} + '\"'"),
        &format!("at least one interval, ' + {interval} + '"),
    ));
    Value::Array(rules)
}

/// What stands beside a profile, and what may stand where there is none.
fn profile_rules() -> [Value; 4] {
    let count = "(has(self.guardrails) ? size(self.guardrails) : 0)";
    // Every profile has its own names, so every one has its own part of the rule and of the message.
    let each = |part: fn(&crate::profile::Profile) -> String, otherwise: &str| {
        let parts = crate::profile::all().iter().map(|profile| format!("self.profile == '{}' ? {} : ", profile.name, part(profile)));
        format!("({}{otherwise})", parts.collect::<String>())
    };
    let list =
        |profile: &crate::profile::Profile| format!("[{}]", profile.names().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "));
    let said = |profile: &crate::profile::Profile| format!("'{}'", profile.names().collect::<Vec<_>>().join(", "));
    let (names, said) = (each(list, "[]"), each(said, "''"));
    let without = "(has(self.without) && size(self.without) > 0)";
    [
        rule(
            ".guardrails",
            &format!(
                "{count} > 0 || (has(self.profile) && (!{without} || !self.without.all(n, n in {names}) || {names}.exists(n, !(n in self.without))))"
            ),
            "'none'",
            GUARDRAILS,
        ),
        rule(
            ".guardrails",
            &format!("!has(self.profile) || {count} <= 20"), // A number in words has no bounded length in the eyes of the API server, and a message with one is over its budget.
            "'more than 20'",
            BESIDE_PROFILE,
        ),
        rule(".without", &format!("!{without} || has(self.profile)"), "'\"' + self.without[0] + '\"'", "a profile beside it"),
        rule(
            ".without",
            &format!("!{without} || !has(self.profile) || self.without.all(n, n in {names})"),
            &format!("'\"' + self.without.filter(n, !(n in {names}))[0] + '\"'"),
            &format!("guardrails of the profile: ' + {said} + '"),
        ),
    ]
}

/// How many guardrails a policy may have.
pub(crate) const GUARDRAILS: &str = "1 to 32 guardrails, or a profile";
/// How many guardrails may stand beside a profile.
pub(crate) const BESIDE_PROFILE: &str = "at most 20 guardrails beside a profile";

pub(crate) fn prometheus() -> Value {
    json!([
        rule(
            ".tls",
            "!has(self.tls) || self.address.startsWith('https://')",
            "'tls for ' + self.address",
            "an address that starts with https://"
        ),
        rule("", "!has(self.bearer) || !has(self.basic)", "'bearer and basic'", "at most one of bearer, basic"),
        rule(
            ".headers",
            "!has(self.headers) || self.headers.all(h, h.name.lowerAscii() != 'authorization')",
            "'Authorization'",
            "bearer or basic, which keep the secret in a Secret",
        ),
    ])
}
