/** What each action does to the machine below, when nothing is in its way. */
import type { Action, ActionResult } from '../../src/pod/model.ts';
import type { World } from './world.ts';

/** @param isLate Nobody waits for it any more: its agent has died. */
export function perform(world: World, uid: string, action: Action, isLate: boolean): ActionResult {
  switch (action.type) {
    case 'SetUpPod':
      world.podDirs.add(uid);
      return { ok: true };
    case 'TearDownPod':
      if (action.final) world.podDirs.delete(uid);
      return { ok: true };
    case 'SetUpVolume':
      world.volumes.add(`${uid}/${action.volume.name}`);
      return { ok: true };
    case 'TearDownVolume':
      world.volumes.delete(`${uid}/${action.volume.name}`);
      return { ok: true };
    case 'PullImage':
      return world.pullImage(action.image, action.policy);
    case 'RunPodSandbox':
      return world.runPodSandbox(uid, action.attempt);
    case 'StopPodSandbox':
      return world.stopPodSandbox(action.id);
    case 'RemovePodSandbox':
      return world.removePodSandbox(action.id);
    case 'CreateContainer': {
      const { name, attempt, sandboxId, imageRef } = action;
      return world.createContainer(uid, name, attempt, sandboxId, imageRef.replace('sha256:', ''));
    }
    case 'StartContainer':
      return world.startContainer(action.id, isLate);
    case 'RemoveContainer':
      return world.removeContainer(action.id);
    case 'Look':
    case 'StopContainer':
    case 'RunPostStart':
    case 'RunPreStop':
      return { ok: true };
  }
}
