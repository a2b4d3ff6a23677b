/* The process that holds a pod's namespaces open: it waits for a signal to leave and reaps what the pod orphans.
 * It does not start, watch or restart anything. */
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    sigset_t watched;
    int received;

    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGCHLD);
    /* Blocked and then waited for, so that no child can exit between the check and the wait. */
    if (sigprocmask(SIG_BLOCK, &watched, NULL) != 0)
        return 1;
    while (sigwait(&watched, &received) == 0) {
        if (received != SIGCHLD)
            return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    return 1;
}
