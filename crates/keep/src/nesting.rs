//! How many instances a component becomes. Components that instantiate components are unfolded when they are compiled, so
//! that nine lines, each of which instantiates the line before ten times, would be a thousand million instances: hours, and
//! all memory of the Keep. They are counted here first, in one pass over the bytes, in which nothing is unfolded.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    Encoding, Parser, Payload,
};

/// Instances that a component may become, core and component's, over all levels. Today's largest toolchains make
/// components of some forty.
pub(crate) const MAX_INSTANCES: u64 = 2_000;

/// A component that becomes more than [`MAX_INSTANCES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// It says how many.
    #[error("the component would become {0} instances; at most {MAX_INSTANCES} are made")]
    Instances(u64),
    /// It instantiates what it is only given, so that they cannot be counted.
    #[error("the component instantiates a component that is imported, or another instance's export")]
    Given,
}

/// What was read of one component or module.
#[derive(Default)]
struct Level {
    is_component: bool,
    /// What each component of its index space becomes; `None`: it is only given.
    components: Vec<Option<u64>>,
    instances: u64,
}

/// Counts. What is no component is nobody's business here: the engine refuses it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), TooMany> {
    let mut levels: Vec<Level> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::Version { encoding, .. } => {
                levels.push(Level { is_component: encoding == Encoding::Component, ..Level::default() });
            }
            Payload::End(_) => {
                let Some(ended) = levels.pop() else { return Ok(()) };
                if ended.instances > MAX_INSTANCES {
                    return Err(TooMany::Instances(ended.instances));
                }
                if let Some(outer) = levels.last_mut().filter(|_| ended.is_component) {
                    outer.components.push(Some(ended.instances));
                }
            }
            payload => match section(&mut levels, payload)? {
                Some(()) => {}
                None => return Ok(()),
            },
        }
    }
    Ok(())
}

/// One section of the innermost level; `None`: it is malformed.
fn section(levels: &mut [Level], payload: Payload<'_>) -> Result<Option<()>, TooMany> {
    let Some((level, outer)) = levels.split_last_mut() else { return Ok(None) };
    match payload {
        Payload::InstanceSection(section) => add(level, u64::from(section.count())),
        Payload::ComponentInstanceSection(section) => {
            for instance in section {
                let Ok(instance) = instance else { return Ok(None) };
                let within = match instance {
                    ComponentInstance::Instantiate { component_index, .. } => {
                        match level.components.get(component_index as usize) {
                            Some(Some(within)) => *within,
                            Some(None) => return Err(TooMany::Given),
                            None => return Ok(None),
                        }
                    }
                    ComponentInstance::FromExports(_) => 0,
                };
                add(level, within.saturating_add(1));
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                match alias {
                    Ok(ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. }) => {
                        level.components.push(None);
                    }
                    Ok(ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index }) => {
                        let (count, index) = (count as usize, index as usize);
                        let components = match count.checked_sub(1) {
                            None => Some(&level.components),
                            Some(above) => outer.iter().rev().nth(above).map(|level| &level.components),
                        };
                        let Some(known) = components.and_then(|components| components.get(index)).copied()
                        else {
                            return Ok(None);
                        };
                        level.components.push(known);
                    }
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section {
                match import {
                    Ok(import) if matches!(import.ty, ComponentTypeRef::Component(_)) => {
                        level.components.push(None);
                    }
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section {
                match export {
                    // An export is a new name for it, and a new index.
                    Ok(export) if export.kind == ComponentExternalKind::Component => {
                        let Some(known) = level.components.get(export.index as usize).copied() else {
                            return Ok(None);
                        };
                        level.components.push(known);
                    }
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                }
            }
        }
        _ => {}
    }
    Ok(Some(()))
}

fn add(level: &mut Level, instances: u64) {
    level.instances = level.instances.saturating_add(instances);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), TooMany> {
        check(&wat::parse_str(text).unwrap())
    }

    fn tens(levels: usize) -> String {
        (0..levels).fold("(core module $m) (core instance (instantiate $m))".to_owned(), |inner, _| {
            format!("(component $c {inner}) {}", "(instance (instantiate $c))".repeat(10))
        })
    }

    /// S-43: what unfolds is counted without being unfolded.
    #[test]
    fn s43_instances_are_counted_over_all_levels() {
        assert_eq!(of(&format!("(component {})", tens(0))), Ok(()));
        assert_eq!(of(&format!("(component {})", tens(2))), Ok(()));
        // Each level is ten times one more than the one within: 1, 20, 210, 2110.
        assert_eq!(of(&format!("(component {})", tens(3))), Err(TooMany::Instances(2110)));
        assert!(matches!(of(&format!("(component {})", tens(60))), Err(TooMany::Instances(_))));
        let many = "(core instance (instantiate $m))".repeat(2_001);
        assert_eq!(of(&format!("(component (core module $m) {many})")), Err(TooMany::Instances(2_001)));
    }

    #[test]
    fn s43_other_names_for_a_component_count_the_same() {
        let within = "(component $c (core module $m) (core instance (instantiate $m)))";
        let often = "(instance (instantiate $x))".repeat(1_001);
        let exported = format!("(component {within} (export $x \"x\" (component $c)) {often})");
        assert_eq!(of(&exported), Err(TooMany::Instances(2_002)));
        let outer = format!("(component {within} (component (alias outer 1 $c (component $x)) {often}))");
        assert_eq!(of(&outer), Err(TooMany::Instances(2_002)));
        let given = "(component (import \"x\" (component $x)) (instance (instantiate $x)))";
        assert_eq!(of(given), Err(TooMany::Given));
        let from_instance = format!(
            "(component {within} (instance $i (export \"x\" (component $c)))
                (alias export $i \"x\" (component $x)) (instance (instantiate $x)))"
        );
        assert_eq!(of(&from_instance), Err(TooMany::Given));
    }

    #[test]
    fn what_is_no_component_is_left_to_the_engine() {
        let good = wat::parse_str(format!("(component {})", tens(2))).unwrap();
        for cut in 0..good.len() {
            assert_eq!(check(&good[..cut]), Ok(()));
        }
        assert_eq!(of("(module (func))"), Ok(()));
    }
}
