//! Which shape of the route a stage, a step or a state at rest stands for. Pure: writes nothing and knows nothing of what is live.

use sha2::{Digest, Sha256};

use crate::plan::PlannedStage;
use crate::revision::RevisionId;
use crate::route::{Backend, Shape};
use crate::spec::StageKind;
use crate::status::{Attempt, Serving};
use crate::weights::Exposure;

use super::draft::position;

/// Both arms of an attempt, and what the shapes of its route need to know.
#[derive(Clone, Copy, Debug)]
pub struct Arms<'a> {
    /// Name of the rollout.
    pub rollout: &'a str,
    /// Uid of the rollout: it moves the slice of users from rollout to rollout.
    pub uid: &'a str,
    /// What serves.
    pub stable: &'a Serving,
    /// What is on trial.
    pub candidate: &'a Serving,
}

impl Arms<'_> {
    /// Both arms referenced, the candidate at this exposure.
    pub fn split(&self, exposure: Exposure) -> Shape {
        split(self.stable, self.candidate, exposure)
    }

    /// The shapes that lead into a stage, none of which exposes anybody; empty when the stage has no shape.
    pub fn ladder(&self, stage: &PlannedStage, running: &Attempt) -> Vec<Shape> {
        match stage.kind {
            StageKind::Canary => vec![self.split(Exposure::ZERO)],
            StageKind::Shadow => std::iter::once(self.split(Exposure::ZERO)).chain(self.at(stage, running, Exposure::ZERO, true)).collect(),
            StageKind::ABTest => [false, true].into_iter().filter_map(|on| self.at(stage, running, Exposure::ZERO, on)).collect(),
        }
    }

    /// The shape of a stage at an exposure; `control` is whether the control Service can answer.
    pub fn at(&self, stage: &PlannedStage, running: &Attempt, exposure: Exposure, control: bool) -> Option<Shape> {
        match stage.kind {
            StageKind::Shadow => {
                let percent = stage.steps.get(position(running).step).copied()?;
                Some(Shape::Mirror { stable: backend(self.stable), candidate: backend(self.candidate), percent })
            }
            StageKind::Canary => Some(self.split(exposure)),
            StageKind::ABTest => self.sticky(stage, exposure, control),
        }
    }

    fn sticky(&self, stage: &PlannedStage, slice: Exposure, control_on: bool) -> Option<Shape> {
        let assignment = stage.assignment.clone()?;
        let hash = Sha256::digest(format!("{}/{}", self.uid, self.candidate.revision));
        Some(Shape::Sticky {
            stable: backend(self.stable),
            candidate: backend(self.candidate),
            control: Backend { name: control_name(self.rollout, &self.stable.revision), ..backend(self.stable) },
            assignment,
            offset: hash.first().copied().unwrap_or(0),
            slice,
            control_on,
        })
    }

    /// The shape in which the candidate has everybody; a sticky route keeps its rules, since they carry requests.
    pub fn everybody(&self, stage: Option<&PlannedStage>, is_sticky: bool) -> Shape {
        let sticky = stage.filter(|stage| is_sticky && stage.kind == StageKind::ABTest);
        sticky.and_then(|stage| self.sticky(stage, Exposure::FULL, true)).unwrap_or_else(|| self.split(Exposure::FULL))
    }
}

/// Both Services referenced, `new` at this exposure.
pub fn split(old: &Serving, new: &Serving, exposure: Exposure) -> Shape {
    Shape::Split { stable: backend(old), candidate: backend(new), exposure }
}

/// One Service for everything.
pub fn single(stable: &Serving) -> Shape {
    Shape::Single { stable: backend(stable) }
}

fn backend(serving: &Serving) -> Backend {
    Backend { name: serving.service.clone(), port: serving.port, revision: serving.revision.clone() }
}

/// Name of the second Service over the pods of a revision. Not after the first one: that may be the user's own, and shared with other rollouts.
pub fn control_name(rollout: &str, revision: &RevisionId) -> String {
    format!("{rollout}-{revision}-control")
}
