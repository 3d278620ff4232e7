/** The words that users see, as the kubelet words them. Source: pkg/kubelet/events, images, container. */
export const REASON = {
  // container waiting
  containerCreating: 'ContainerCreating',
  podInitializing: 'PodInitializing',
  crashLoopBackOff: 'CrashLoopBackOff',
  imagePullBackOff: 'ImagePullBackOff',
  errImagePull: 'ErrImagePull',
  errImageNeverPull: 'ErrImageNeverPull',
  invalidImageName: 'InvalidImageName',
  imageInspectError: 'ImageInspectError',
  createContainerError: 'CreateContainerError',
  createContainerConfigError: 'CreateContainerConfigError',
  runContainerError: 'RunContainerError',
  postStartHookError: 'PostStartHookError',
  // container terminated
  completed: 'Completed',
  error: 'Error',
  containerStatusUnknown: 'ContainerStatusUnknown',
  /** limpet's own: the board lost power, or was restarted, while the container may have run. */
  nodePowerLoss: 'NodePowerLoss',
  // pod
  deadlineExceeded: 'DeadlineExceeded',
  /** limpet's own: see `offline-policy.ts`. */
  nodeOffline: 'NodeOffline',
  featureUnsupported: 'PodFeatureUnsupported',
  // events
  created: 'Created',
  started: 'Started',
  killing: 'Killing',
  pulling: 'Pulling',
  pulled: 'Pulled',
  failed: 'Failed',
  backOff: 'BackOff',
  unhealthy: 'Unhealthy',
  probeWarning: 'ProbeWarning',
  failedPostStartHook: 'FailedPostStartHook',
  failedPreStopHook: 'FailedPreStopHook',
  lifecycleHttpFallback: 'LifecycleHTTPFallback',
  sandboxChanged: 'SandboxChanged',
  failedCreatePodSandBox: 'FailedCreatePodSandBox',
  failedKillPod: 'FailedKillPod',
  failedMount: 'FailedMount',
  failedToRetrieveImagePullSecret: 'FailedToRetrieveImagePullSecret',
  failedSetUpPod: 'FailedSetUpPod',
} as const;
