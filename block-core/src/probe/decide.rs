//! Combines all answers into one decision.

use super::claim::{Kind, Placement, Probe};
use super::hint::Hint;
use super::input::ProbeInput;
use super::report::{Candidate, Decision, ProbeReport, Relation, RelationKind, WindowRead};
use super::score::{CLAIM, Score, raw_score, score};

/// Lowest weight of a hint that contradicts a container, unless the container owns the hint's place.
const STRONG_HINT: u8 = 60;

/// Combines all answers into a report. The order of `probes` and `hints` does not matter.
pub fn decide(input: &ProbeInput, probes: Vec<Probe>, hints: Vec<Hint>) -> ProbeReport {
    let mut relations = Vec::new();
    let mut hints = distinct(hints, &mut relations);
    hints.sort_by(|a, b| (b.weight, &a.id, a.offset).cmp(&(a.weight, &b.id, b.offset)));
    let scored = refine(score_all(probes), &mut relations);

    let claims: Vec<&Scored> = scored.iter().filter(|scored| scored.score.is_claim()).collect();
    let outer = relate(input, &claims, &hints, &mut relations);
    relations.sort_by(|a, b| (a.kind, &a.outer, &a.inner).cmp(&(b.kind, &b.outer, &b.inner)));
    relations.dedup();

    let mut candidates: Vec<Candidate> = scored.iter().map(Scored::candidate).collect();
    let raw = raw_score(&hints);
    candidates.push(Candidate {
        placement: Placement::Anywhere,
        id: "raw".to_owned(),
        kind: Kind::Raw,
        variant: None,
        score: if input.is_empty() { Score::of(0) } else { raw },
        evidence: Vec::new(),
        drivers: vec!["raw".to_owned()],
    });
    candidates.sort_by(|a, b| b.score.value.cmp(&a.score.value).then_with(|| a.id.cmp(&b.id)));

    let (decision, selected) = match outer {
        _ if input.is_empty() => (Decision::Empty, Some("raw".to_owned())),
        Outer::None => (Decision::Raw, Some("raw".to_owned())),
        Outer::Conflict => (Decision::Ambiguous, None),
        Outer::One(one) if !one.score.is_sound() => {
            (Decision::Broken, Some(one.probe.id.to_string()))
        }
        Outer::One(one) => (Decision::Selected, Some(one.probe.id.to_string())),
    };
    ProbeReport {
        file_len: input.len(),
        selected,
        decision,
        candidates,
        raw_hints: hints,
        relations,
        windows_read: input
            .windows()
            .into_iter()
            .map(|(offset, len)| WindowRead { offset, len })
            .collect(),
        limits_hit: input.limits_hit().to_vec(),
    }
}

struct Scored {
    probe: Probe,
    score: Score,
}

impl Scored {
    fn candidate(&self) -> Candidate {
        let mut drivers = Vec::new();
        match self.probe.kind {
            Kind::Wrapper | Kind::NotADisk => {}
            Kind::Content => drivers.extend([self.probe.id.to_string(), "raw".to_owned()]),
            Kind::Container | Kind::Descriptor | Kind::Raw => {
                drivers.push(self.probe.id.to_string());
                for other in [self.probe.refines, self.probe.driver].into_iter().flatten() {
                    if !drivers.iter().any(|known| known == other) {
                        drivers.push(other.to_owned());
                    }
                }
            }
        }
        Candidate {
            id: self.probe.id.to_string(),
            kind: self.probe.kind,
            variant: self.probe.variant.as_ref().map(ToString::to_string),
            score: self.score,
            evidence: self.probe.evidence.clone(),
            drivers,
            placement: self.probe.placement,
        }
    }
}

/// Drops each hint that a stronger one covers.
fn distinct(hints: Vec<Hint>, relations: &mut Vec<Relation>) -> Vec<Hint> {
    let outer = |inner: &Hint| {
        hints
            .iter()
            .find(|outer| outer.weight >= STRONG_HINT && outer.covers.contains(&inner.id.as_ref()))
    };
    for inner in &hints {
        if let Some(outer) = outer(inner) {
            relations.push(Relation {
                kind: RelationKind::SameBytes,
                outer: outer.id.to_string(),
                inner: inner.id.to_string(),
            });
        }
    }
    hints.iter().filter(|inner| outer(inner).is_none()).cloned().collect()
}

/// Scores the answers that have any evidence, and sorts them: the highest score first, then by name.
fn score_all(probes: Vec<Probe>) -> Vec<Scored> {
    let mut scored: Vec<Scored> = probes
        .into_iter()
        .filter(|probe| probe.id != "raw")
        .map(|probe| Scored { score: score(&probe), probe })
        .filter(|scored| scored.score.value > 0)
        .collect();
    scored.sort_by(|a, b| {
        b.score.value.cmp(&a.score.value).then_with(|| a.probe.id.cmp(&b.probe.id))
    });
    scored
}

/// Drops each format if a special case of it has claimed the file. Raises the special case's score above it.
fn refine(mut scored: Vec<Scored>, relations: &mut Vec<Relation>) -> Vec<Scored> {
    let mut dropped: Vec<String> = Vec::new();
    let parents: Vec<(String, u8)> =
        scored.iter().map(|s| (s.probe.id.to_string(), s.score.value)).collect();
    for child in &mut scored {
        let Some(parent) = child.probe.refines else {
            continue;
        };
        let Some((_, parent_value)) = parents.iter().find(|(id, _)| id == parent) else {
            continue;
        };
        if child.score.value < CLAIM.min(*parent_value) {
            continue;
        }
        let lifted = if Score::of(*parent_value).is_sound() {
            parent_value.saturating_add(2).min(100)
        } else {
            *parent_value
        };
        // A special case with more evidence against it than the general format keeps its own, lower score.
        let own = child.score.value;
        child.score = Score::of(if own >= *parent_value { lifted } else { own.max(CLAIM) });
        dropped.push(parent.to_owned());
        relations.push(Relation {
            kind: RelationKind::Refinement,
            outer: child.probe.id.to_string(),
            inner: parent.to_owned(),
        });
    }
    scored.retain(|scored| !dropped.iter().any(|id| scored.probe.id == id.as_str()));
    scored.sort_by(|a, b| {
        b.score.value.cmp(&a.score.value).then_with(|| a.probe.id.cmp(&b.probe.id))
    });
    scored
}

enum Outer<'a> {
    None,
    One(&'a Scored),
    Conflict,
}

/// Finds the one claim that carries all others, and records every contradiction.
fn relate<'a>(
    input: &ProbeInput,
    claims: &[&'a Scored],
    hints: &[Hint],
    relations: &mut Vec<Relation>,
) -> Outer<'a> {
    let mut conflict = false;
    let mut inner: Vec<&str> = Vec::new();
    for (index, a) in claims.iter().enumerate() {
        for b in claims.iter().skip(index.saturating_add(1)) {
            let (kind, outer, within) = relation(&a.probe, &b.probe);
            conflict |= matches!(kind, RelationKind::Ambiguous | RelationKind::NestedContainer);
            if kind == RelationKind::Carrier {
                inner.push(within);
            }
            relations.push(Relation { kind, outer: outer.to_owned(), inner: within.to_owned() });
        }
    }
    let outer: Vec<&&Scored> =
        claims.iter().filter(|claim| !inner.contains(&claim.probe.id.as_ref())).collect();
    for claim in &outer {
        for hint in hints {
            let owned = claim.probe.carries_hints
                || claim.probe.placement == Placement::Trailer
                || claim.probe.payload_from.is_some_and(|from| hint.offset >= from)
                || hint.offset >= input.len();
            let kind = if owned {
                RelationKind::Carrier
            } else if hint.weight >= STRONG_HINT {
                conflict = true;
                RelationKind::Ambiguous
            } else {
                continue;
            };
            relations.push(Relation {
                kind,
                outer: claim.probe.id.to_string(),
                inner: hint.id.to_string(),
            });
        }
    }
    match outer.as_slice() {
        [] => Outer::None,
        _ if conflict => Outer::Conflict,
        [one] => Outer::One(one),
        _ => Outer::Conflict,
    }
}

/// Returns the relation of two claims, the outer format and the inner one. The order of the arguments does not matter.
fn relation<'a>(a: &'a Probe, b: &'a Probe) -> (RelationKind, &'a str, &'a str) {
    directed(a, b).or_else(|| directed(b, a)).unwrap_or_else(|| {
        let (first, second) = if a.id <= b.id { (a, b) } else { (b, a) };
        (RelationKind::Ambiguous, first.id.as_ref(), second.id.as_ref())
    })
}

fn directed<'a>(outer: &'a Probe, inner: &'a Probe) -> Option<(RelationKind, &'a str, &'a str)> {
    let kind = match (outer.placement, inner.placement) {
        (Placement::Trailer, Placement::Content) => RelationKind::Carrier,
        (Placement::Trailer, Placement::Header) => RelationKind::NestedContainer,
        _ if outer.carries.contains(&inner.id.as_ref()) => RelationKind::Carrier,
        _ => return None,
    };
    Some((kind, outer.id.as_ref(), inner.id.as_ref()))
}
