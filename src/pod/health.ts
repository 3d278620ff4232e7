/**
 * What probes and hooks mean for a container: whether it is up, ready, to be stopped, and which
 * probes are to be made. Pure. Source: pkg/kubelet/prober, pkg/kubelet/kuberuntime.
 */
import type { Container, Probe } from '../kube/pod.ts';
import type { ContainerLedger, Kill, ProbeName, Seen, Want } from './model.ts';
import { ofAttempt, policyOf, roleOf } from './seen.ts';

/** A probe that is to be made now and then for as long as this is wanted. */
export type ProbeWanted = {
  readonly probe: ProbeName;
  readonly spec: Probe;
  readonly container: Container;
  /** The run of the container that it is for. */
  readonly id: string;
};

/** The probes that a pod's containers are to be asked, in a stable order. */
export function probesOf({ pod }: Want, seen: Seen): readonly ProbeWanted[] {
  const wanted: ProbeWanted[] = [];
  const { ledger } = seen;
  if (ledger.terminal !== undefined) return wanted;
  for (const container of [...pod.spec.initContainers, ...pod.spec.containers]) {
    const { startupProbe, livenessProbe, readinessProbe } = container;
    if ((startupProbe ?? livenessProbe ?? readinessProbe) === undefined) continue;
    const its = ledger.containers[container.name];
    if (its === undefined || its.outcome !== undefined) continue;
    const found = ofAttempt(seen, container.name, its.attempt);
    if (found?.state !== 'CONTAINER_RUNNING' || !hasPostStarted(container, its)) continue;
    const add = (probe: ProbeName, spec: Probe | undefined) => {
      if (spec !== undefined) wanted.push({ probe, spec, container, id: found.id });
    };
    // What is being ended is asked no more whether it should be; whether it is ready, it is.
    const stays = ledger.ending === undefined && its.kill === undefined;
    if (!isUp(container, its)) {
      if (stays) add('startup', startupProbe);
      continue;
    }
    if (stays) add('liveness', livenessProbe);
    add('readiness', readinessProbe);
  }
  return wanted;
}

/** The postStart hook of the current run has ended, or there is none. */
export function hasPostStarted({ lifecycle }: Container, ledger: ContainerLedger): boolean {
  return lifecycle?.postStart === undefined || ledger.postStart === 'done';
}

/** Whether a container that runs counts as started: its hook and its startup probe are behind it. */
export function isUp(container: Container, ledger: ContainerLedger): boolean {
  if (!hasPostStarted(container, ledger)) return false;
  return container.startupProbe === undefined || ledger.started === true;
}

/** What the readiness probe of a container's current run said last; not ready while it did not. */
export function lastReady(seen: Seen, name: string): ContainerLedger['ready'] {
  const ledger = seen.ledger.containers[name];
  const said = seen.ready[name];
  return said !== undefined && said.attempt === ledger?.attempt ? said : ledger?.ready;
}

/** The grace of a container that is stopped though its pod goes on. */
export function killGraceSeconds({ pod }: Want, container: Container, { cause }: Kill): number {
  const probe =
    cause === 'liveness'
      ? container.livenessProbe
      : cause === 'startup'
        ? container.startupProbe
        : undefined;
  return probe?.terminationGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds;
}

/** Why a container is stopped, in the kubelet's words. */
export function killMessage(want: Want, { name }: Container, { cause }: Kill): string {
  if (cause === 'postStart') return 'FailedPostStartHook';
  if (cause === 'changed') return `Container ${name} definition changed, will be restarted`;
  const role = roleOf(want, name) ?? 'main';
  if (role !== 'main') return `Init container ${name} failed ${cause} probe`;
  const again = policyOf(want, role) === 'Never' ? '' : ', will be restarted';
  return `Container ${name} failed ${cause} probe${again}`;
}

/** Equal answers in a row. */
export type Streak = { readonly last?: 'success' | 'failure'; readonly length: number };

export const NO_STREAK: Streak = { length: 0 };

/** One more answer, and what it says of the container once there were enough of them. */
export function counted(
  streak: Streak,
  answer: 'success' | 'failure',
  { successThreshold, failureThreshold }: Probe,
): { readonly streak: Streak; readonly verdict?: 'success' | 'failure' } {
  const length = streak.last === answer ? streak.length + 1 : 1;
  const enough = answer === 'success' ? successThreshold : failureThreshold;
  const next = { streak: { last: answer, length } };
  return length < enough ? next : { ...next, verdict: answer };
}

/** The container of this name in the pod's spec. */
export function containerOf({ pod }: Want, name: string): Container | undefined {
  const { initContainers, containers } = pod.spec;
  return [...initContainers, ...containers].find((container) => container.name === name);
}
