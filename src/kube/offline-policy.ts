/**
 * What a pod of the API server wants done when its node is cut off for long, as annotations:
 *
 *   limpet.dev/offline-policy   run (default), or stop-after=DURATION
 *   limpet.dev/on-return        restart (default): it is started again when the API server is back and
 *                               still has it; fail: it ends as Failed, and its controller replaces it
 */
import { parseDuration } from './go-duration.ts';

export const OFFLINE_POLICY_ANNOTATION = 'limpet.dev/offline-policy';
export const ON_RETURN_ANNOTATION = 'limpet.dev/on-return';

export type OfflinePolicy = {
  /** Undefined: it runs for as long as the node does. */
  readonly stopAfterMs: number | undefined;
  readonly onReturn: 'restart' | 'fail';
};

const STOP_AFTER = 'stop-after=';

/** What is no policy is `run`; `policyProblem` has said so before. */
export function offlinePolicy(
  annotations: Readonly<Record<string, string>> | undefined,
): OfflinePolicy {
  const policy = annotations?.[OFFLINE_POLICY_ANNOTATION] ?? '';
  const onReturn = annotations?.[ON_RETURN_ANNOTATION] === 'fail' ? 'fail' : 'restart';
  return { stopAfterMs: stopAfterMs(policy), onReturn };
}

function stopAfterMs(policy: string): number | undefined {
  if (!policy.startsWith(STOP_AFTER)) return undefined;
  const ms = parseDuration(policy.slice(STOP_AFTER.length));
  return ms !== undefined && ms > 0 ? ms : undefined;
}

/** What is wrong with an annotation of these two; undefined of all others. */
export function policyProblem(key: string, value: string): string | undefined {
  if (key === OFFLINE_POLICY_ANNOTATION) {
    if (value === 'run' || stopAfterMs(value) !== undefined) return undefined;
    return 'must be "run" or "stop-after=" and a duration such as 5m';
  }
  if (key !== ON_RETURN_ANNOTATION || value === 'restart' || value === 'fail') return undefined;
  return 'must be "restart" or "fail"';
}
