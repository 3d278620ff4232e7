/**
 * What `featureGates` and `--feature-gates` mean. Words of the errors are the kubelet's.
 * Source: k8s.io/component-base featuregate/feature_gate.go, v0.36.
 */
import { GATE_NEEDS, GATES } from './feature-gate-table.ts';
import { nearest } from './parse-fields.ts';

/**
 * The gates on which something in limpet depends. To heed one more: add it here and ask
 * `FeatureGates.enabled` for it.
 */
const HEEDED: readonly string[] = [
  'AllAlpha',
  'AllBeta',
  'CustomCPUCFSQuotaPeriod',
  'GracefulNodeShutdown',
  'GracefulNodeShutdownBasedOnPodPriority',
  'KubeletCrashLoopBackOffMax',
  'KubeletEnsureSecretPulledImages',
  'LoggingAlphaOptions',
  'LoggingBetaOptions',
  'MemoryQoS',
  'QOSReserved',
  'RotateKubeletServerCertificate',
];

export type FeatureGates = {
  /** Whether a gate is on. A gate that nobody knows is off. */
  enabled(name: string): boolean;
  readonly problems: readonly GateFinding[];
  readonly warnings: readonly GateFinding[];
};

export type GateFinding = { readonly gate: string; readonly message: string };

/** Resolves gates as they were set; all others have their defaults. */
export function resolveGates(set: Readonly<Record<string, boolean>>): FeatureGates {
  const problems: GateFinding[] = [];
  const warnings: GateFinding[] = [];
  const wanted = new Map(Object.entries(set));
  const enabled = (name: string): boolean => {
    const own = wanted.get(name);
    const gate = GATES.get(name);
    if (own !== undefined) return own;
    const all = gate?.stage === 'alpha' ? 'AllAlpha' : gate?.stage === 'beta' ? 'AllBeta' : '';
    return (name === all ? undefined : wanted.get(all)) ?? gate?.default ?? false;
  };
  for (const [name, value] of wanted) {
    const gate = GATES.get(name);
    if (gate === undefined) {
      const near = nearest(name, [...GATES.keys()]);
      const hint = near === undefined ? 'remove it' : `did you mean "${near}"?`;
      problems.push({ gate: name, message: `unrecognized feature gate: ${name}; ${hint}` });
    } else if (gate.locked && gate.default !== value) {
      const message =
        `cannot set feature gate ${name} to ${value}, ` +
        `feature is locked to ${gate.default}; remove it`;
      problems.push({ gate: name, message });
    } else if (gate.default !== value && !HEEDED.includes(name)) {
      warnings.push({ gate: name, message: `limpet does not heed the feature gate ${name}` });
    }
  }
  for (const [name, needs] of Object.entries(GATE_NEEDS)) {
    const missing = enabled(name) ? needs.filter((need) => !enabled(need)) : [];
    if (missing.length === 0) continue;
    const message =
      `${name} is enabled, but depends on features that are disabled: ` +
      `[${missing.join(' ')}]; set ${name} to false as well`;
    problems.push({ gate: name, message });
  }
  return { enabled, problems, warnings };
}
