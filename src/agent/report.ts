/** What the local socket and `limpet status` tell of the pods. */
import type { PodStatus } from '../kube/pod.ts';
import type { PodList, PodReport } from '../server/api.ts';
import type { Deletion, Now } from '../pod/model.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import { statusOf, summaryOf } from '../pod/status.ts';
import type { Worker } from './turns.ts';

/** Brings the status of a pod up to date. */
export function bringUpToDate(worker: Worker, now: Now, hostIP?: string): PodStatus {
  const { want, seen } = worker;
  const facts = hostIP === undefined ? {} : { hostIP };
  const status = statusOf(want, seen, now, facts, worker.status);
  // Before the first look nothing is known of the containers: no condition changes because of that.
  if (seen.view !== undefined) worker.status = status;
  return status;
}

/** The report of one pod, with its status brought up to date. */
export function reportOf(worker: Worker, now: Now, hostIP: string | undefined): PodReport {
  const status = bringUpToDate(worker, now, hostIP);
  const { want } = worker;
  return {
    kind: 'PodReport',
    pod: want.pod,
    source: want.source,
    status,
    deleting: want.deletion !== undefined,
    ...(want.deletion !== undefined && deletionOf(want.deletion)),
    summary: summaryOf(want, status),
  };
}

function deletionOf({ graceSeconds, at }: Deletion) {
  return {
    deletionTimestamp: rfc3339OfMs(at.wallMs + graceSeconds * 1000),
    deletionGracePeriodSeconds: graceSeconds,
  };
}

/** All pods by namespace and name. */
export function podList(workers: Iterable<Worker>, now: Now, hostIP: string | undefined): PodList {
  const items = [...workers].map((worker) => reportOf(worker, now, hostIP));
  const key = ({ pod: { metadata } }: PodReport) => `${metadata.namespace}/${metadata.name}`;
  items.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
  return { kind: 'PodList', items };
}
