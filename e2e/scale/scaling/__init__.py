"""The parts of the test of scale: a stand-in for Prometheus, one for the gateway, copies of idle rollouts, measurements and the page."""
