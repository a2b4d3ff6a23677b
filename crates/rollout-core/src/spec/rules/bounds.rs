//! Admission rules of guardrails: one kind each, with bounds, slices and promises in the form of that kind.
//! Does not read a bound's meaning; [`crate::validate`] does, and it checks all of this again.

use serde_json::{Value, json};

use super::{DURATION, NUMBER, rule};

/// What remains of a bound without its number.
fn form(bound: &str) -> String {
    format!("{bound}.replace({bound}.find('{NUMBER}'), '', 1)")
}

fn number(bound: &str) -> String {
    format!("double({bound}.find('{NUMBER}'))")
}

/// Whether less is worse, by the target.
const FLOOR: &str = "self.target.startsWith('at least ')";

/// The bounds of a proportion or a latency.
pub(crate) const COUNT_BOUND: &str =
    "\"5%\" (above 0%, below 100%), \"+2pp vs stable\" (below 100pp) or \"1.25x vs stable\" (at least 1x); stable or baseline";
/// The bounds of a rate.
pub(crate) const RATE_BOUND: &str = "\"1.25x vs stable\" (at least 1x); stable or baseline";
/// The kinds of guardrail.
pub(crate) const KINDS: [&str; 10] =
    ["proportion", "rate", "latency", "paired", "fairness", "drift", "energy", "gauge", "limit", "tripwire"];
/// The bounds of pairs.
pub(crate) const PAIRED_BOUND: &str = "\"+1pp vs stable\" (below 100pp)";
/// The bounds of a gap between groups.
pub(crate) const GAP_BOUND: &str = "\"5pp\" (above 0pp, below 100pp)";

/// The bounds of drift.
pub(crate) const DRIFT_BOUND: &str = "\"0.1\" (above 0, and below 1 unless the measure is PSI)";
/// The bounds of energy.
pub(crate) const ENERGY_BOUND: &str = "\"0.8x vs stable\", \"120J\" per inference, or with carbon \"1kg\" per million inferences (above 0)";
/// What belongs to a recorded reference.
pub(crate) const RECORDED: &str = "recorded, the gauge with the share of every bin, together with reference Recorded";

pub(crate) fn guardrail() -> Value {
    let each = |text: fn(&str) -> String| KINDS.map(|kind| format!("(has(self.{kind}) ? {})", text(kind))).join(" + ");
    let count = each(|_| "1 : 0".to_owned());
    // Lists joined to a string are over the cost budget; literals put together are not.
    let names = each(|kind| format!("'{kind}, ' : ''"));
    let mut rules = vec![
        json!({
            "rule": format!("{count} == 1"),
            "message": format!("expected exactly one of {}", KINDS.join(", ")),
            "messageExpression": format!(
                "'found ' + ({count} == 0 ? 'none, ' : '') + {names} + 'expected exactly one of {}'",
                KINDS.join(", ")
            ),
        }),
        rule(".target", "has(self.target) || has(self.tripwire)", "'none'", "a bound, such as +2pp vs stable, 1.25x vs stable, 5% or 30W"),
        rule(
            "",
            "!has(self.tripwire) || (!has(self.target) && !has(self.critical))",
            "(has(self.target) ? 'target' : 'critical') + ' beside tripwire'",
            "no bound: a tripwire allows nothing",
        ),
    ];
    rules.extend(targets());
    rules.extend(targets_of_distances());
    rules.extend(critical_bounds());
    rules.extend(slices());
    rules.extend(wins());
    rules.push(rule(
        ".maturity",
        "!has(self.maturity) || has(self.proportion) || has(self.rate)",
        "'maturity beside another kind'",
        MATURING,
    ));
    rules.extend(cohorts());
    rules.push(rule(
        ".orNotWorseThanStable",
        "!has(self.orNotWorseThanStable) || !self.orNotWorseThanStable || \
         ((has(self.proportion) || has(self.latency)) && has(self.target) && self.target.endsWith('%'))",
        "'true with target ' + (has(self.target) ? '\"' + self.target + '\"' : 'none')",
        "it only with an absolute target of a proportion or latency, such as 5%",
    ));
    Value::Array(rules)
}

/// Whether a drift is measured by the one measure without an upper end.
const IS_PSI: &str = "!has(self.drift.measure) || self.drift.measure == 'PSI'";

/// Every kind takes its own forms of a target.
fn targets() -> [Value; 6] {
    let target = "self.target";
    let found = "'\"' + self.target + '\"'";
    let n = number(target);
    let unit = |kind: &str| format!("(has(self.{kind}.unit) ? self.{kind}.unit : '')");
    let difference = |kind: &str| format!("(has(self.{kind}.unit) && self.{kind}.unit == '%' ? 'pp' : {})", unit(kind));
    let (gauge, gauge_difference, limit) = (unit("gauge"), difference("gauge"), unit("limit"));
    [
        rule(
            ".target",
            &format!(
                "!has(self.target) || !(has(self.proportion) || has(self.latency)) || \
                 (self.target.matches('^([+]{NUMBER}pp vs (stable|baseline)|{NUMBER}x vs (stable|baseline)|{NUMBER}%)$') && \
                 (self.target.contains('x') ? {n} >= 1.0 : {n} < 100.0 && ({n} > 0.0 || self.target.contains('pp'))))"
            ),
            found,
            COUNT_BOUND,
        ),
        rule(
            ".target",
            &format!("!has(self.target) || !has(self.rate) || (self.target.matches('^{NUMBER}x vs (stable|baseline)$') && {n} >= 1.0)"),
            found,
            RATE_BOUND,
        ),
        rule(
            ".target",
            &format!("!has(self.target) || !has(self.fairness) || (self.target.matches('^{NUMBER}pp$') && {n} > 0.0 && {n} < 100.0)"),
            found,
            GAP_BOUND,
        ),
        rule(
            ".target",
            &format!("!has(self.target) || !has(self.paired) || (self.target.matches('^[+]{NUMBER}pp vs stable$') && {n} < 100.0)"),
            found,
            PAIRED_BOUND,
        ),
        rule(
            ".target",
            &format!(
                "!has(self.target) || !has(self.gauge) || (self.target.matches('^([+]|at least )?{NUMBER}') && {} in \
                 [{gauge}, 'at least ' + {gauge}, '+' + {gauge_difference} + ' vs stable', '+' + {gauge_difference} + ' vs baseline'])",
                form(target)
            ),
            found,
            &format!(
                "\"30' + {gauge} + '\", \"at least 30' + {gauge} + '\" or \"+2' + {gauge_difference} + ' vs stable\", in the unit of the gauge; \
                 stable or baseline"
            ),
        ),
        rule(
            ".target",
            &format!(
                "!has(self.target) || !has(self.limit) || \
                 (self.target.matches('^(at least )?{NUMBER}') && {} in [{limit}, 'at least ' + {limit}]) || \
                 (self.target.matches('^(at least )?{NUMBER}x vs (stable|baseline)$') && {n} > 0.0)",
                form(target)
            ),
            found,
            &format!(
                "\"512' + {limit} + '\", \"at least 512' + {limit} + '\" or \"0.5x vs stable\", in the unit of the limit; stable or baseline"
            ),
        ),
    ]
}

/// The targets of drift and of energy.
fn targets_of_distances() -> [Value; 2] {
    let n = number("self.target");
    let found = "'\"' + self.target + '\"'";
    [
        rule(
            ".target",
            &format!(
                "!has(self.target) || !has(self.drift) || (self.target.matches('^{NUMBER}$') && {n} > 0.0 && ({n} < 1.0 || {IS_PSI}))"
            ),
            found,
            DRIFT_BOUND,
        ),
        rule(
            ".target",
            &format!(
                "!has(self.target) || !has(self.energy) || ({n} > 0.0 && (self.target.matches('^{NUMBER}x vs stable$') || \
                 (has(self.energy.carbon) ? self.target.matches('^{NUMBER}kg$') : self.target.matches('^{NUMBER}J$'))))"
            ),
            found,
            ENERGY_BOUND,
        ),
    ]
}

/// The critical bound takes the form of the target, whatever the kind, and is no stricter.
fn critical_bounds() -> [Value; 2] {
    let (target, critical) = ("self.target", "self.critical");
    let (n, critical_n) = (number(target), number(critical));
    [
        rule(
            ".critical",
            &format!(
                "!has(self.critical) || !has(self.target) || {target}.find('{NUMBER}') == '' || ({critical}.find('{NUMBER}') != '' && {} == {} && \
                 ({FLOOR} ? {critical_n} <= {n} : {critical_n} >= {n}) && ({critical_n} > 0.0 || !{critical}.contains('x vs ')) && \
                 ({critical_n} < 100.0 || !(has(self.proportion) || has(self.latency) || has(self.fairness) || has(self.paired)) || self.target.contains('x')) && \
                 (!has(self.drift) || {IS_PSI} || {critical_n} < 1.0))",
                form(critical),
                form(target),
            ),
            "'\"' + self.critical + '\"'",
            &format!("the form of target and at ' + ({FLOOR} ? 'most' : 'least') + ' its value, \"' + self.target + '\""),
        ),
        rule(
            ".critical",
            "!has(self.critical) || has(self.target) || has(self.tripwire)",
            "'\"' + self.critical + '\" without target'",
            "a target beside it",
        ),
    ]
}

/// The wins that counts can promise.
pub(crate) const COUNT_WIN: &str = "\"0.8x vs stable\" (above 0x, below 1x); stable or baseline";
/// Where a win can be promised.
pub(crate) const WINNERS: &str = "expect beside proportion, rate, latency, or gauge with an absolute target";

/// A promised win takes the form of its kind and is better than the target.
fn wins() -> [Value; 3] {
    let (win, target) = ("self.expect", "self.target");
    let (n, most, unit) = (number(win), number(target), "(has(self.gauge.unit) ? self.gauge.unit : '')");
    let found = "'\"' + self.expect + '\"'";
    let absolute = format!("{target}.matches('^(at least )?{NUMBER}') && !{target}.contains(' vs ')");
    [
        rule(
            ".expect",
            &format!(
                "!has(self.expect) || has(self.proportion) || has(self.rate) || has(self.latency) || (has(self.gauge) && (!has(self.target) || ({absolute})))"
            ),
            "(has(self.gauge) ? 'expect beside a relative target' : 'expect beside another kind')",
            WINNERS,
        ),
        rule(
            ".expect",
            &format!(
                "!has(self.expect) || !(has(self.proportion) || has(self.rate) || has(self.latency)) || \
                 ({win}.matches('^{NUMBER}x vs (stable|baseline)$') && {n} > 0.0 && {n} < 1.0)"
            ),
            found,
            COUNT_WIN,
        ),
        rule(
            ".expect",
            &format!(
                "!has(self.expect) || !has(self.gauge) || !has(self.target) || !({absolute}) || \
                 ({win}.matches('^(at least )?{NUMBER}') && {} == ({FLOOR} ? 'at least ' : '') + {unit} && ({FLOOR} ? {n} > {most} : {n} < {most}))",
                form(win),
            ),
            found,
            &format!("a level ' + ({FLOOR} ? 'above' : 'below') + ' target, \"' + self.target + '\""),
        ),
    ]
}

/// Where labels may come late.
pub(crate) const MATURING: &str = "maturity beside proportion or rate, whose labels may come late";

/// Where cohorts may not stand.
pub(crate) const UNSLICED: &str = "one of them: the labels of a cohort are not told apart any further";
/// Where cohorts may stand.
pub(crate) const COUNTED: &str = "it beside a count of all events";

/// What the requests of labels are.
pub(crate) const LABELLED: &str = "total to count those of the requests that got a label";
/// Where the requests of labels may not stand.
pub(crate) const UNDATED: &str = "one of them: requests are not told apart by cohort";

fn cohorts() -> [Value; 3] {
    let has = "has(self.maturity) && has(self.maturity.cohortLabel)";
    [
        rule(
            ".proportion.requests",
            &format!("!has(self.proportion) || !has(self.proportion.requests) || !({has})"),
            "'requests and cohortLabel'",
            UNDATED,
        ),
        rule(".slices", &format!("!has(self.slices) || !({has})"), "'slices and cohortLabel'", UNSLICED),
        rule(
            ".maturity.cohortLabel",
            &format!("!({has}) || !has(self.rate) || has(self.rate.exposure)"),
            "'cohortLabel beside rate without exposure'",
            COUNTED,
        ),
    ]
}

pub(crate) fn maturity() -> Value {
    let width = "(has(self.cohortWidth) ? self.cohortWidth : '1h')";
    let good = |text: &str| format!("{text} != '' && {text}.matches('{DURATION}')");
    let (age_is_good, width_is_good) = (good("self.age"), good(width));
    json!([
        rule(".cohortWidth", "!has(self.cohortWidth) || has(self.cohortLabel)", "'\"' + self.cohortWidth + '\"'", "cohortLabel beside it"),
        rule(
            ".age",
            &format!(
                "!has(self.cohortLabel) || !({age_is_good}) || !({width_is_good}) || \
                 duration(self.age).getSeconds() <= 100 * duration({width}).getSeconds()"
            ),
            "'\"' + self.age + '\"'",
            &format!("at most 100 times cohortWidth, ' + {width} + '"),
        ),
    ])
}

/// Where slices may stand.
pub(crate) const SLICED: &str = "slices beside proportion, latency, or rate with exposure: they need a count of all events";

/// Slices belong to counts, and their bound takes the form of the target and is no stricter.
fn slices() -> [Value; 2] {
    let (target, slice) = ("self.target", "self.slices.target");
    [
        rule(
            ".slices",
            "!has(self.slices) || has(self.proportion) || has(self.latency) || (has(self.rate) && has(self.rate.exposure))",
            "(has(self.rate) ? 'slices beside rate without exposure' : 'slices beside another kind')",
            SLICED,
        ),
        rule(
            ".slices.target",
            &format!(
                "!has(self.slices) || !has(self.slices.target) || !has(self.target) || {target}.find('{NUMBER}') == '' || \
                 ({slice}.find('{NUMBER}') != '' && {} == {} && {} >= {} && \
                 ({} < 100.0 || !(has(self.proportion) || has(self.latency)) || self.target.contains('x')))",
                form(slice),
                form(target),
                number(slice),
                number(target),
                number(slice)
            ),
            "'\"' + self.slices.target + '\"'",
            "the form of target and at least its value, \"' + self.target + '\"",
        ),
    ]
}

pub(crate) fn proportion() -> Value {
    json!([
        rule(".bad", "self.bad != self.total", "'\"' + self.bad + '\" as bad and as total'", "bad events to be some of all events"),
        rule(
            ".requests",
            "!has(self.requests) || self.requests != self.total",
            "'\"' + self.requests + '\" as total and as requests'",
            LABELLED,
        ),
    ])
}

pub(crate) fn paired() -> Value {
    json!([
        rule(
            ".candidateWrong",
            "self.candidateWrong != self.total && self.candidateWrong != self.stableWrong",
            "'\"' + self.candidateWrong + '\" twice'",
            "three different counters",
        ),
        rule(".stableWrong", "self.stableWrong != self.total", "'\"' + self.stableWrong + '\" twice'", "three different counters"),
    ])
}

pub(crate) fn fairness() -> Value {
    json!([rule(
        ".events",
        "self.events != self.total",
        "'\"' + self.events + '\" as events and as total'",
        "events to be some of all events"
    )])
}

pub(crate) fn drift() -> Value {
    json!([rule(
        "",
        "(has(self.reference) && self.reference == 'Recorded') == has(self.recorded)",
        "(has(self.recorded) ? 'recorded with reference Stable' : 'reference Recorded without recorded')",
        RECORDED,
    )])
}

pub(crate) fn energy() -> Value {
    json!([rule(
        ".consumption",
        "self.consumption != self.inferences",
        "'\"' + self.consumption + '\" as energy and as inferences'",
        "two different counters",
    )])
}

pub(crate) fn latency() -> Value {
    let good = |field: &str| format!("self.{field} != '' && self.{field}.matches('{DURATION}')");
    let (edge, higher) = (good("slowerThan"), good("criticallySlowerThan"));
    let above = rule(
        ".criticallySlowerThan",
        &format!(
            "!has(self.criticallySlowerThan) || !({edge}) || !({higher}) || duration(self.criticallySlowerThan) > duration(self.slowerThan)"
        ),
        "'\"' + self.criticallySlowerThan + '\"'",
        "an edge above slowerThan, \"' + self.slowerThan + '\"",
    );
    let base = rule(
        ".histogram",
        "!self.histogram.matches('^[a-zA-Z0-9_:]*_(bucket|count|sum)([{]|$)')",
        "'\"' + self.histogram + '\"'",
        "the base name of a histogram, without _bucket, _count or _sum",
    );
    json!([base, above])
}
