/**
 * What the node does with its cluster while it can be talked to. Each part goes on by itself; one
 * that can't reach the API server waits and tries again, and never ends the others.
 */
import { abortable } from '../base/abortable.ts';
import { systemRandom } from '../base/random.ts';
import { followApiPods } from './api-pods.ts';
import type { Session } from './cluster.ts';
import { storedCluster } from './cluster-check.ts';
import type { Core, Foundation } from './core.ts';
import { sendEvents } from './event-sink.ts';
import type { AgentOptions } from './options.ts';

export type ClusterWorkParts = {
  readonly options: AgentOptions;
  readonly base: Foundation;
  readonly core: Core;
};

/** The parts; resolves when the signal is aborted. A session follows another when keys change. */
export async function clusterWork(
  { options, base, core }: ClusterWorkParts,
  session: Session,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log, store } = base;
  const { desired, statuses, mirrors, offline } = core;
  const synced = Promise.withResolvers<undefined>();
  const nodeUid = () => storedCluster(store)?.nodeUid;
  const pods = {
    ...{ clock, log, store, desired, statuses, mirrors },
    random: systemRandom(),
    nodeName: options.nodeName,
    onSynced: () => synced.resolve(undefined),
    onCaughtUp: () => offline.caughtUp(),
  };
  const { client } = session;
  // What happened while nobody could be told is told of pods that are still wanted.
  const afterList = async () => {
    await abortable(synced.promise, signal);
    await Promise.all([statuses.run(session, signal), mirrors.run(session, nodeUid, signal)]);
  };
  const ended = (error: unknown) => {
    if (!signal.aborted) throw error;
  };
  await Promise.all([
    followApiPods(pods, session, signal),
    afterList().catch(ended),
    sendEvents({ clock, log, store, random: systemRandom(), client, options }, signal),
    core.clusterObjects?.work(session, signal) ?? Promise.resolve(),
  ]);
}
