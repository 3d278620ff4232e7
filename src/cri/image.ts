/** The CRI's ImageService. */
import { Failure } from '../base/failure.ts';
import type { Image, ImageService } from '../kube/cri.ts';
import type { Channel, Method } from './channel.ts';
import type { Decoded, Message } from './codec.ts';
import { unless } from './runtime.ts';
import * as wire from './schema.ts';

const LOOK_MS = 30_000;
const REMOVE_MS = 120_000;

function method<I extends Message, O extends Message>(
  name: string,
  request: I,
  response: O,
): Method<I, O> {
  return { path: `/runtime.v1.ImageService/${name}`, request, response };
}

/** The calls of ImageService that limpet makes. */
export const IMAGE_METHODS = {
  status: method('ImageStatus', wire.ImageStatusRequest, wire.ImageStatusResponse),
  pull: method('PullImage', wire.PullImageRequest, wire.PullImageResponse),
  list: method('ListImages', wire.ListImagesRequest, wire.ListImagesResponse),
  remove: method('RemoveImage', wire.RemoveImageRequest, wire.Empty.removeImage),
} as const;

/** The runtime's image calls over `channel`. Failures are `errors.ts`'s. */
export function createImageService(channel: Channel): ImageService {
  return {
    async imageStatus(name, signal) {
      const answer = await channel
        .unary(IMAGE_METHODS.status, { image: { image: name } }, { signal, deadlineMs: LOOK_MS })
        .catch(unless('NotFound'));
      return answer?.image === undefined ? undefined : image(answer.image);
    },
    async pullImage(name, sandboxConfig, auth, signal) {
      const request = { image: { image: name }, auth, sandboxConfig };
      // A large image over a slow line takes its time; the runtime gives up on one that stalls.
      const answer = await channel.unary(IMAGE_METHODS.pull, request, {
        signal,
        deadlineMs: undefined,
      });
      if (answer.imageRef === '') {
        throw new Failure('Unknown', `PullImage: the runtime gave no reference for ${name}`);
      }
      return answer.imageRef;
    },
    async listImages(signal) {
      const answer = await channel.unary(IMAGE_METHODS.list, {}, { signal, deadlineMs: LOOK_MS });
      return answer.images.map(image);
    },
    async removeImage(name, signal) {
      await channel
        .unary(IMAGE_METHODS.remove, { image: { image: name } }, { signal, deadlineMs: REMOVE_MS })
        .catch(unless('NotFound'));
    },
  };
}

function image(item: Decoded<typeof wire.Image>): Image {
  const { uid, ...rest } = item;
  return uid === undefined ? rest : { ...rest, uid };
}
