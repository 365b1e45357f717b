//! Noise that hides one contributor, by OpenDP: its samplers are exact (CKS20), free of the leaks of floating-point
//! noise (Mironov 2012), and its maps from sensitivity to loss are proved. We choose the scale, and OpenDP's map, not our
//! formula, decides whether it keeps the promise.

use database_manifest::{Mechanism, Noise};
use opendp::{
    combinators::make_zCDP_to_approxDP,
    core::{Domain, Measurement, MetricSpace},
    domains::AtomDomain,
    measurements::{make_gaussian, make_laplace},
    measures::{MaxDivergence, ZeroConcentratedDivergence},
    metrics::AbsoluteDistance,
};
use thiserror::Error;

/// Noise could not be made, or would not keep what the manifest promises.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoiseError {
    /// OpenDP's word.
    #[error("noise: {0}")]
    OpenDp(String),
    /// The loss is above what the manifest says.
    #[error("noise: no scale keeps the promise of epsilon")]
    Promise,
}

impl From<opendp::error::Error> for NoiseError {
    fn from(error: opendp::error::Error) -> Self {
        Self::OpenDp(error.to_string())
    }
}

/// How often a scale is widened by a millionth before we give up: rounding in the map costs less than one.
const WIDENINGS: u32 = 8;

/// Adds noise to a whole number; the result stays one.
///
/// # Errors
/// [`NoiseError`].
pub fn integer(noise: &Noise, value: i64) -> Result<i64, NoiseError> {
    let space = || (AtomDomain::<i64>::default(), AbsoluteDistance::<f64>::default());
    match noise.mechanism {
        Mechanism::Laplace => {
            laplace(noise, |scale| make_laplace(space().0, space().1, scale, None))?.invoke(&value)
        }
        Mechanism::Gaussian { delta } => {
            gaussian(noise, delta, |scale| make_gaussian(space().0, space().1, scale, None))?.invoke(&value)
        }
    }
    .map_err(Into::into)
}

/// Adds noise to a number; what is not finite counts as zero, so that it does not show.
///
/// # Errors
/// [`NoiseError`].
pub fn float(noise: &Noise, value: f64) -> Result<f64, NoiseError> {
    let value = if value.is_finite() { value } else { 0.0 };
    let space = || (AtomDomain::<f64>::new_non_nan(), AbsoluteDistance::<f64>::default());
    match noise.mechanism {
        Mechanism::Laplace => {
            laplace(noise, |scale| make_laplace(space().0, space().1, scale, None))?.invoke(&value)
        }
        Mechanism::Gaussian { delta } => {
            gaussian(noise, delta, |scale| make_gaussian(space().0, space().1, scale, None))?.invoke(&value)
        }
    }
    .map_err(Into::into)
}

type Noisy<D, MO> = Measurement<D, AbsoluteDistance<f64>, MO, <D as Domain>::Carrier>;

/// The mechanism whose loss is at most epsilon by OpenDP's map.
fn laplace<D>(
    noise: &Noise,
    make: impl Fn(f64) -> opendp::error::Fallible<Noisy<D, MaxDivergence>>,
) -> Result<Noisy<D, MaxDivergence>, NoiseError>
where
    D: Domain,
    (D, AbsoluteDistance<f64>): MetricSpace,
{
    let scale = noise.sensitivity / noise.epsilon;
    widened(scale, |scale| {
        let mechanism = make(scale)?;
        Ok((mechanism.map(&noise.sensitivity)? <= noise.epsilon).then_some(mechanism))
    })
}

/// The mechanism whose loss is at most epsilon with probability 1 - delta by OpenDP's map. The scale is by zero-concentrated
/// privacy: rho = sensitivity² / (2 scale²), epsilon = rho + 2 √(rho ln 1/delta) (Bun and Steinke 2016, Proposition 1.3);
/// OpenDP's conversion is tighter, so this errs to more noise.
fn gaussian<D>(
    noise: &Noise,
    delta: f64,
    make: impl Fn(f64) -> opendp::error::Fallible<Noisy<D, ZeroConcentratedDivergence>>,
) -> Result<Noisy<D, ZeroConcentratedDivergence>, NoiseError>
where
    D: Domain + 'static,
    (D, AbsoluteDistance<f64>): MetricSpace,
{
    let log = (1.0 / delta).ln();
    let root_of_rho = (log + noise.epsilon).sqrt() - log.sqrt();
    let scale = noise.sensitivity / (std::f64::consts::SQRT_2 * root_of_rho);
    widened(scale, |scale| {
        let promise = make_zCDP_to_approxDP(make(scale)?)?.map(&noise.sensitivity)?;
        Ok(if promise.delta(noise.epsilon)? <= delta { Some(make(scale)?) } else { None })
    })
}

fn widened<T>(
    mut scale: f64,
    attempt: impl Fn(f64) -> opendp::error::Fallible<Option<T>>,
) -> Result<T, NoiseError> {
    for _ in 0..WIDENINGS {
        if let Some(found) = attempt(scale)? {
            return Ok(found);
        }
        scale *= 1.000_001;
    }
    Err(NoiseError::Promise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laplace(epsilon: f64) -> Noise {
        Noise { mechanism: Mechanism::Laplace, sensitivity: 1.0, epsilon }
    }

    fn gauss(epsilon: f64) -> Noise {
        Noise { mechanism: Mechanism::Gaussian { delta: 1e-6 }, sensitivity: 1.0, epsilon }
    }

    /// Mean and mean deviation of many samples around 1000.
    fn spread(noise: &Noise) -> (f64, f64) {
        let samples: Vec<f64> = (0..4000).map(|_| integer(noise, 1000).unwrap() as f64).collect();
        let mean = samples.iter().sum::<f64>() / 4000.0;
        (mean, samples.iter().map(|it| (it - mean).abs()).sum::<f64>() / 4000.0)
    }

    #[test]
    fn noise_is_centred_and_as_wide_as_epsilon_asks() {
        for (noise, wide) in [(laplace(0.1), 10.0), (laplace(1.0), 0.9), (gauss(0.5), 8.4)] {
            let (mean, deviation) = spread(&noise);
            assert!((mean - 1000.0).abs() < wide / 5.0, "{noise:?}: {mean}");
            assert!((deviation / wide - 1.0).abs() < 0.2, "{noise:?}: {deviation}");
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        for value in [i64::MIN, i64::MAX] {
            integer(&laplace(0.000_1), value).unwrap();
        }
        for value in [f64::MAX, f64::NAN, f64::INFINITY] {
            float(&laplace(1.0), value).unwrap();
        }
    }

    #[test]
    fn a_missing_number_does_not_show() {
        let noisy = float(&laplace(1.0), f64::NAN).unwrap();
        assert!(noisy.is_finite() && noisy.abs() < 200.0, "{noisy}");
    }

    #[test]
    fn no_scale_for_nothing() {
        assert!(integer(&laplace(0.0), 1).is_err());
        assert!(integer(&Noise { sensitivity: f64::NAN, ..laplace(1.0) }, 1).is_err());
    }
}
