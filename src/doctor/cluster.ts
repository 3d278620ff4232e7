/** The way to the API server: kubeconfig, certificate, and whether somebody answers. */
import { join } from 'node:path';

import { ApiClient } from '../apiserver/client.ts';
import { loadCredentials } from '../apiserver/credentials.ts';
import { createLog } from '../base/log.ts';
import { Failure } from '../base/failure.ts';
import type { Finding } from '../server/api.ts';
import { reporter, type Check, type Machine } from './machine.ts';

const { ok, degraded } = reporter('cluster');
const DEADLINE_MS = 5_000;

export const clusterCheck: Check = {
  name: 'cluster',
  run: async (machine) => {
    try {
      return await ask(machine);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const isAlone = error.code === 'NotFound' && machine.kubeconfigIsDefault;
      if (isAlone) return [ok('this node belongs to no cluster: there is no kubeconfig')];
      return [degraded(error.message, 'pods that are here go on; no others come')];
    }
  },
};

async function ask(machine: Machine): Promise<readonly Finding[]> {
  const { clock, signal } = machine;
  const log = createLog('error', () => undefined);
  const path = join(machine.root, machine.kubeconfig);
  const credentials = await loadCredentials(path, { clock, log, signal });
  const doubt = credentials.doubt();
  if (doubt !== undefined) return [degraded(doubt, 'see: limpet status')];
  using client = new ApiClient({ credentials, clock });
  const request = { method: 'GET', path: '/version' } as const;
  const answer = await client.raw(request, { signal, deadlineMs: DEADLINE_MS });
  const version = /"gitVersion":\s*"([^"]{1,40})"/.exec(answer.toString('utf8'))?.[1];
  return [
    ok(`${credentials.server.origin} answers, Kubernetes ${version ?? 'of unknown version'}`),
  ];
}
