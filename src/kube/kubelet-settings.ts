/**
 * From files and flags to one KubeletConfiguration, with the kubelet's precedence: flags, then
 * drop-in files, then the configuration file, then defaults.
 * Source: k8s.io/kubernetes cmd/kubelet/app/server.go and pkg/kubelet/apis/config/v1beta1
 * defaults.go, v1.36.3.
 */
import {
  configObject,
  fillDefaults,
  formatSource,
  isZero,
  mergeFile,
  problemOf,
  reportEffects,
  type Findings,
  type Setting,
  type Settings,
} from './config-settings.ts';
import { resolveGates, type FeatureGates } from './feature-gates.ts';
import { checkKubeletConfig } from './kubelet-config-rules.ts';
import { DEFAULT_EVICTION_HARD, KUBELET_FIELDS, type KubeletConfig } from './kubelet-config.ts';
import { KUBELET_FLAG_FIELDS, type KubeletFlags } from './kubelet-flags.ts';
import { leaves } from './config-fields.ts';
import { formatProblem } from './manifest-node.ts';
import { nodeLabelsProblem } from './node-labels.ts';
import type { ConfigKind, ConfigReading } from './read-config.ts';

export const KUBELET_CONFIG: ConfigKind = {
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  fields: KUBELET_FIELDS,
  unknownFields: 'warning',
};

export type ReadFile = { readonly path: string; readonly reading: ConfigReading };

export type KubeletSources = {
  readonly file: ReadFile | undefined;
  /** In the order of their names; undefined when there is no folder of them. */
  readonly dropIns: readonly ReadFile[] | undefined;
  readonly kubelet: Settings;
  readonly flags: Settings;
  /**
   * `withFile`: those of the configuration API. `withoutFile`: those that a kubelet has which is
   * given no file. `alone`: limpet's own, for a node without a configuration.
   */
  readonly defaults: 'withFile' | 'withoutFile' | 'alone';
};

export type KubeletOutcome = {
  readonly config: KubeletConfig;
  readonly flags: KubeletFlags;
  readonly gates: FeatureGates;
  readonly settings: Settings;
  readonly flagSettings: Settings;
};

/** What limpet takes for granted on a node that has no configuration at all. */
export const ALONE = {
  staticPodPath: '/etc/kubernetes/manifests',
  cgroupDriver: 'systemd',
  clusterDomain: 'cluster.local',
  // A member without a configuration would drop out when its first certificate ends.
  rotateCertificates: true,
  // Who wants to be asked about health has a configuration; no port is opened unasked.
  healthzPort: 0,
} as const satisfies Partial<KubeletConfig>;

/** Puts the configuration together. What is wrong with it is added to `findings`. */
export function kubeletConfiguration(
  { file, dropIns, kubelet, flags, defaults }: KubeletSources,
  findings: Findings,
): KubeletOutcome {
  const settings: Settings = new Map();
  const read = [...(file === undefined ? [] : [file]), ...(dropIns ?? [])];
  for (const { path, reading } of read) {
    findings.problems.push(...reading.problems.map((problem) => formatProblem(path, problem)));
    findings.warnings.push(...reading.warnings.map((warning) => formatProblem(path, warning)));
  }
  if (file !== undefined) mergeFile(settings, KUBELET_FIELDS, file.reading.given, file.path);
  fillKubeletDefaults(settings, defaults !== 'withoutFile');
  if (file !== undefined) fillEvictionHard(settings);
  if (dropIns !== undefined) {
    mergeDropIns(settings, dropIns);
    fillKubeletDefaults(settings, true);
  }
  if (defaults === 'alone') {
    for (const [path, value] of Object.entries(ALONE)) {
      if (settings.get(path)?.source.from !== 'default') continue;
      settings.set(path, { value, source: { from: 'default' } });
    }
  }
  layFlags(settings, kubelet);
  const flagSettings = new Map(flags);
  fillDefaults(flagSettings, KUBELET_FLAG_FIELDS, false);
  const config = configObject(KUBELET_FIELDS, settings) as KubeletConfig;
  const flagValues = configObject(KUBELET_FLAG_FIELDS, flagSettings) as KubeletFlags;
  const gates = resolveGates(config.featureGates);
  const outcome = { config, flags: flagValues, gates, settings, flagSettings };
  // What can't be read has said so; rules would only say it again in other words.
  if (findings.problems.length === 0) check(outcome, findings);
  reportEffects(KUBELET_FIELDS, settings, findings);
  reportEffects(KUBELET_FLAG_FIELDS, flagSettings, findings);
  return outcome;
}

function fillKubeletDefaults(settings: Settings, hasFile: boolean): void {
  const update = settings.get('nodeStatusUpdateFrequency');
  const report = settings.get('nodeStatusReportFrequency');
  if (update !== undefined && !isZero(update.value) && isZero(report?.value)) {
    settings.set('nodeStatusReportFrequency', update);
  }
  const pulls = settings.get('maxParallelImagePulls');
  if (typeof pulls?.value === 'number' && pulls.value > 1 && !settings.has('serializeImagePulls')) {
    settings.set('serializeImagePulls', { ...pulls, value: false });
  }
  const pids = settings.get('podPidsLimit');
  if (typeof pids?.value === 'number' && pids.value < 0) {
    settings.set('podPidsLimit', { ...pids, value: -1 });
  }
  fillDefaults(settings, KUBELET_FIELDS, hasFile);
}

/** All of the default thresholds or none: what a file says of one signal takes away the others. */
function fillEvictionHard(settings: Settings): void {
  const own = settings.get('evictionHard');
  const isGiven = own !== undefined && own.source.from !== 'default';
  if (isGiven && settings.get('mergeDefaultEvictionSettings')?.value !== true) return;
  const value = { ...DEFAULT_EVICTION_HARD, ...(own?.value as object | undefined) };
  settings.set('evictionHard', { value, source: own?.source ?? { from: 'default' } });
}

function mergeDropIns(settings: Settings, dropIns: readonly ReadFile[]): void {
  // The kubelet writes what it has as JSON before it merges, and that leaves out empty lists.
  for (const [path, field] of leaves(KUBELET_FIELDS)) {
    const isList = field.shape.type === 'list' || field.shape.type === 'map';
    if (isList && isZero(settings.get(path)?.value)) settings.delete(path);
  }
  for (const { path, reading } of dropIns) {
    mergeFile(settings, KUBELET_FIELDS, reading.given, path);
  }
}

/** A flag replaces what files say, but for feature gates: those are merged one by one. */
function layFlags(settings: Settings, flags: Settings): void {
  for (const [path, setting] of flags) {
    const under = settings.get(path)?.value as object | undefined;
    const value =
      path === 'featureGates' ? { ...under, ...(setting.value as object) } : setting.value;
    settings.set(path, { value, source: setting.source });
  }
}

function check(outcome: KubeletOutcome, findings: Findings): void {
  const { config, flags, gates, settings } = outcome;
  const fields = new Map(leaves(KUBELET_FIELDS));
  const add = (path: string, message: string, shown?: unknown) => {
    const setting = settings.get(path)!;
    const told: Setting = shown === undefined ? setting : { ...setting, value: shown };
    findings.problems.push(problemOf(path, told, message, fields.get(path)!));
  };
  const { problems, warnings } = gates;
  for (const { gate, message } of problems) add('featureGates', message, config.featureGates[gate]);
  const gatesFrom = formatSource(settings.get('featureGates')!.source);
  findings.warnings.push(...warnings.map(({ message }) => `${gatesFrom}: ${message}`));
  checkKubeletConfig(config, gates, add);
  const labels = nodeLabelsProblem(flags.nodeLabels);
  if (labels !== undefined) findings.problems.push(labels);
}
